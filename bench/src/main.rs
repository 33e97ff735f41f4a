//! `bench`: compares the throughput of Ringway with other proxies, fairly and repeatably.
#![deny(unsafe_code)]

mod histogram;
mod load;
mod origin;
mod procfs;
mod relay;
mod wire;
#[allow(unsafe_code, reason = "the ring hands pointers to the kernel; nothing else may")]
mod ring;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The origin.
    Origin {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The raw relay.
    Relay {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        origin: SocketAddr,
    },
    /// The load generator.
    Load(load::Options),
}

fn main() -> std::process::ExitCode {
    let result = match Arguments::parse().command {
        Command::Origin { listen } => origin::serve(listen),
        Command::Relay { listen, origin } => relay::serve(listen, origin),
        Command::Load(options) => load::run(&options).map(|m| println!("{}", serde_json::to_string(&m).unwrap())),
    };
    if let Err(e) = result { eprintln!("{e}"); return 1.into(); }
    0.into()
}
