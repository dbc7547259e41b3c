//! The original API: `/api/chat.php`, `/api/models.php`, `/api/stats.php`, with and without `.php`.

pub(super) mod chat;
pub(super) mod models;
pub(super) mod stats;
