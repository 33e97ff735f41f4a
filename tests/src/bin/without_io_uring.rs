//! Runs a command in which io_uring is forbidden, as the seccomp profiles of containers do: `io_uring_setup` is EPERM.
//!
//! A program of its own, since a filter cannot be taken off again: `without-io-uring COMMAND [ARGUMENT ...]`.
#![forbid(unsafe_code)]

use seccompiler::{apply_filter, BpfProgram, SeccompAction, SeccompFilter};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: without-io-uring COMMAND [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    if let Err(error) = forbid() {
        eprintln!("cannot forbid io_uring: {error}");
        return ExitCode::FAILURE;
    }
    // Comes back only when it fails.
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("{}: {error}", program.to_string_lossy());
    ExitCode::FAILURE
}

fn forbid() -> Result<(), Box<dyn std::error::Error>> {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)?;
    Ok(())
}
