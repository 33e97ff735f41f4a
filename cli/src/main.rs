//! The `ringway` command: arguments in, a call, an exit code out.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 configuration invalid, 4 the running
//! gateway cannot be reached.
#![forbid(unsafe_code)]

mod arguments;
mod commands;

use std::process::ExitCode;

use clap::Parser;

/// Memory of a burst goes back to the system: see docs/decisions.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(arguments::Arguments::parse())
}
