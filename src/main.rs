//! The program. Its commands are in `cli`, all else in the library.

use std::process::ExitCode;

mod cli;

/// Graphs are millions of small shared parts, made by one thread and given back by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
