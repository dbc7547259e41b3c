//! The `freellmapi` program.

fn main() {}
