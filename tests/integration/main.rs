//! The one binary of all integration tests.
