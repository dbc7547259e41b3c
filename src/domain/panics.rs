//! Panics that were survived, counted.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;

/// Runs what may panic and counts when it does, in the whole process. A panic is a bug of ours; it may cost the
/// request in whose work it happened, and nobody else's.
///
/// What is passed in is taken for unwind safe: it belongs to one request and is dropped, or it is shared under locks
/// that hold over no more than a decision.
#[derive(Clone, Debug, Default)]
pub struct Panics(Arc<AtomicU64>);

impl Panics {
    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Does `work` at `place`, which names it in the log; `None` when it panics.
    pub fn survive<T>(&self, place: &'static str, work: impl FnOnce() -> T) -> Option<T> {
        self.counted(place, catch_unwind(AssertUnwindSafe(work)))
    }

    /// The same for a future. Cancel-safe where `work` is: dropping it drops that.
    ///
    /// Not an `async fn`, which would have room for `work` twice, before its first poll and after: it is large, and
    /// moved with every request.
    pub fn survive_all<T, F: Future<Output = T>>(
        &self,
        place: &'static str,
        work: F,
    ) -> impl Future<Output = Option<T>> + use<T, F> {
        let panics = self.clone();
        AssertUnwindSafe(work).catch_unwind().map(move |outcome| panics.counted(place, outcome))
    }

    /// The panic's own words stay out of the log: they may repeat a prompt.
    fn counted<T>(&self, place: &'static str, outcome: Result<T, Box<dyn Any + Send>>) -> Option<T> {
        if outcome.is_err() {
            let panics = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            log::error!(place = place, panics = panics; "a panic was survived; it cost one request");
        }
        outcome.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_survived_and_counted() {
        let panics = Panics::default();
        assert_eq!(panics.survive("here", || 7), Some(7));
        assert_eq!(panics.survive("here", || -> u8 { panic!("on purpose") }), None);
        let work = panics.survive_all("here", async { panic!("on purpose") });
        assert_eq!(work.now_or_never(), Some(None::<()>));
        assert_eq!(panics.count(), 2);
    }
}
