//! The word that a provider may have room again.

use std::fmt;
use std::sync::Arc;

/// Tells those who wait for a provider that it may have room that it had not: something was settled, or a probe has
/// decided. Called with no lock held.
#[derive(Clone)]
pub struct Freed(Arc<dyn Fn() + Send + Sync>);

impl Freed {
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Where nobody waits.
    pub fn nobody() -> Self {
        Self::new(|| ())
    }

    pub fn tell(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Freed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Freed")
    }
}
