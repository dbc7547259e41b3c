//! The `freellmapi` program.

use std::process::ExitCode;

/// A request makes and frees some hundred small pieces of memory, mostly on one thread, which is what mimalloc is
/// quicker at than the system's allocator.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    freellmapi::cli::main()
}
