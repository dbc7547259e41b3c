//! An error with all that caused it, in one line.

use std::error::Error;
use std::fmt;

/// Prints an error and its sources, outermost first, separated by `: `. Our errors describe their own layer only.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_the_causes() {
        assert_eq!(ErrorChain(&Outer(std::io::Error::other("inner"))).to_string(), "outer: inner");
    }
}
