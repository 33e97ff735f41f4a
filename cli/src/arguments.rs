//! What can be written on the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An API gateway on io_uring: one pinned reactor per core.
#[derive(Parser, Debug)]
#[command(name = "ringway", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The file that most commands take.
#[derive(Args, Debug, Clone)]
pub struct Config {
    /// The configuration file [default: ./ringway.toml, else /etc/ringway/ringway.toml]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the gateway in the foreground
    Run(Config),
    /// Check a configuration and show every problem at once
    Check {
        /// Which file.
        #[command(flatten)]
        config: Config,
        /// How to show problems
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Say which route a request takes, and why each nearer one does not
    Explain {
        /// Which file.
        #[command(flatten)]
        config: Config,
        /// The request's method
        method: String,
        /// Its URL, or a path
        url: String,
        /// A header field, `Name: value`; may be repeated
        #[arg(short = 'H', long = "header", value_name = "FIELD")]
        headers: Vec<String>,
        /// The client's address
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
        client: IpAddr,
    },
    /// Have the running gateway read its configuration again
    Reload {
        /// Which file; it says where the running gateway's workdir is.
        #[command(flatten)]
        config: Config,
        /// Return when every core serves the new one
        #[arg(long)]
        wait: bool,
    },
    /// Show the running gateway's status
    Status(Config),
    /// Have the running gateway finish what is in flight and end
    Stop {
        /// Which file; it says where the running gateway's workdir is.
        #[command(flatten)]
        config: Config,
        /// End at once instead
        #[arg(long)]
        now: bool,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print a completion script
    Completion {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Start two demo origins and a gateway before them
    Quickstart {
        /// Where the gateway listens; the next free port is taken if it is busy
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Print the version
    Version,
}

/// How problems are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// With the source line and a remedy
    Human,
    /// As one JSON document
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// clap's own check of the definition: no name or flag twice, no impossible default.
    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn command_lines() {
        let check = |line: &str, good: bool| {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
        };
        check("ringway run -c a.toml", true);
        check("ringway check --config a.toml --format json", true);
        check("ringway check --format yaml", false);
        check("ringway explain GET /a -H X:1 -H Y:2 --client 10.0.0.1", true);
        check("ringway explain GET", false);
        check("ringway explain GET /a --client nobody", false);
        check("ringway reload --wait", true);
        check("ringway stop --now -c a.toml", true);
        check("ringway completion fish", true);
        check("ringway quickstart --listen 127.0.0.1:0", true);
        check("ringway quickstart --listen 8080", false);
        check("ringway", false);
    }
}
