//! The two dialects in which clients speak to us.

/// Which shape answers and errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// The original API, `/api/….php`.
    Original,
    /// OpenAI's, `/v1/…`.
    OpenAi,
}
