//! `bench`: compares the throughput of Ringway with other proxies, fairly and repeatably.
//!
//! `bench run S1 --blocks 12` measures, `bench report DIR` makes tables and plots of what was measured, `bench smoke`
//! looks whether every scenario still works. `origin`, `relay`, `load` and `launch` are the child processes
//! themselves, of use by hand as well. In reading order: scenario, subject, run, measure, child, network; load, wire,
//! origin, relay, ring; row, stats, report.
#![deny(unsafe_code)]

mod child;
mod histogram;
mod load;
mod measure;
mod network;
mod origin;
mod peers;
mod procfs;
mod relay;
mod report;
#[allow(unsafe_code, reason = "the ring hands pointers to the kernel; nothing else may")]
mod ring;
mod row;
mod run;
mod scenario;
mod smoke;
mod stats;
mod subject;
mod template;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Compares the throughput of Ringway with other proxies.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure scenarios and write rows and a report.
    Run(run::Options),
    /// Make tables and plots of a run's rows.
    Report {
        /// The run's folder.
        directory: PathBuf,
    },
    /// Every scenario in very short windows; fails on any wrong answer.
    Smoke(smoke::Options),
    /// Build the peers that are packages of their own.
    Peers {
        #[command(subcommand)]
        command: peers::Command,
    },
    /// The origin.
    Origin {
        /// Where to listen, ADDRESS:PORT or ADDRESS:PORT/MILLISECONDS with a delay of every answer; may be repeated.
        #[arg(long, required = true)]
        listen: Vec<origin::Place>,
    },
    /// The raw relay, the floor of what a proxy can cost.
    Relay {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// Where to connect to.
        #[arg(long)]
        origin: SocketAddr,
    },
    /// The load generator; prints one JSON line.
    Load(Box<load::Options>),
    /// Enter a namespace, pin, and become a program.
    #[command(hide = true)]
    Launch(child::Launch),
}

fn main() -> ExitCode {
    let text = |error: std::io::Error| error.to_string();
    let result = match Arguments::parse().command {
        Command::Run(options) => run::run(&options).and_then(|(out, rows)| conclude(&out, &rows)),
        Command::Report { directory } => report::write(&directory).map(|summary| println!("{summary}")),
        Command::Smoke(options) => smoke::run(&options),
        Command::Peers { command } => peers::run(&command),
        Command::Origin { listen } => origin::serve(&listen).map_err(text),
        Command::Relay { listen, origin } => relay::serve(listen, origin).map_err(text),
        Command::Load(options) => load::run(&options).map_err(text).and_then(|measured| {
            let line = serde_json::to_string(&measured).map_err(|error| error.to_string())?;
            println!("{line}");
            Ok(())
        }),
        Command::Launch(launch) => Err(launch.run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the report; fails where a row is void, so that a script sees it.
fn conclude(out: &std::path::Path, rows: &[row::Row]) -> Result<(), String> {
    println!("{}", report::write(out)?);
    let missing = |row: &&row::Row| {
        !matches!(row.measure, row::Measure::NotInstalled | row::Measure::NotApplicable) && row.void.is_some()
    };
    match rows.iter().filter(missing).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} rows are void; the report names them", rows.len())),
    }
}
