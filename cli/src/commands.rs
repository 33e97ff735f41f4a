//! One function per command: a call into the crate that knows, and an exit code.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use balancer::route::explain::{explain, ExplainRequest};
use clap::CommandFactory;
use control::socket::{self, Request};

use crate::arguments::{Arguments, Command, Config, Format};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INVALID: u8 = 3;
const UNREACHABLE: u8 = 4;

/// Runs a command.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Run(config) => {
            with_file(&config, |path| control::run(&control::RunOptions { config: path.to_owned() }))
        }
        Command::Check { config, format } => with_file(&config, |path| check(path, format)),
        Command::Explain { config, method, url, headers, client } => with_file(&config, |path| {
            let request = ExplainRequest::new(&method, &url, &headers, client);
            match request {
                Ok(request) => explain_request(path, &request),
                Err(error) => {
                    eprintln!("error: {error}");
                    ExitCode::from(USAGE)
                }
            }
        }),
        Command::Reload { config, wait } => with_file(&config, |path| ask(path, &Request::Reload { wait })),
        Command::Status(config) => with_file(&config, |path| ask(path, &Request::Status)),
        Command::Stop { config, now } => {
            with_file(&config, |path| ask(path, if now { &Request::Stop } else { &Request::Drain }))
        }
        Command::Schema => print(&format!("{:#}\n", config::schema())),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ringway", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(Arguments::command()).render(&mut page) {
                Ok(()) => print(&String::from_utf8_lossy(&page)),
                Err(error) => fail(&error),
            }
        }
        Command::Quickstart { listen } => control::quickstart::quickstart(listen),
        Command::Version => print(&format!("ringway {}\n", control::VERSION)),
    }
}

/// A closed pipe (`ringway man | head`) is no failure worth a word.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(FAILED)
}

fn with_file(config: &Config, then: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    let usual = ["ringway.toml", "/etc/ringway/ringway.toml"];
    let found = match &config.config {
        Some(path) => Some(path.clone()),
        None => usual.iter().map(PathBuf::from).find(|path| path.exists()),
    };
    match found {
        Some(path) => then(&path),
        None => {
            eprintln!("error: there is neither {} nor {}; name one with `-c FILE`", usual[0], usual[1]);
            ExitCode::from(USAGE)
        }
    }
}

fn check(path: &Path, format: Format) -> ExitCode {
    let (report, good) = control::check(path);
    match format {
        Format::Json => print(&format!("{:#}\n", report.to_json())),
        Format::Human => {
            eprint!("{}", report.render(std::io::stderr().is_terminal()));
            if good {
                println!("{} is good", path.display());
            }
            ExitCode::SUCCESS
        }
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(INVALID)
    }
}

fn document(path: &Path) -> Result<config::Document, ExitCode> {
    let (document, report) = config::parse_file_with(path, &config::ProcessEnv, &engine::plan::check_plugins);
    document.ok_or_else(|| {
        eprint!("{}", report.render(std::io::stderr().is_terminal()));
        ExitCode::from(INVALID)
    })
}

fn explain_request(path: &Path, request: &ExplainRequest) -> ExitCode {
    match document(path) {
        Ok(document) => print(&explain(&document, request).to_string()),
        Err(code) => code,
    }
}

fn ask(path: &Path, request: &Request) -> ExitCode {
    // A broken file must not keep the command from reaching the gateway.
    let (document, report) = config::parse_file_with(path, &config::ProcessEnv, &engine::plan::check_plugins);
    let workdir = document.map_or_else(|| control::workdir_of(path), |document| document.server.workdir);
    match socket::ask(&workdir, request) {
        Ok(answer) if answer.ok => {
            if let Some(status) = answer.status {
                return print(&format!("{status:#}\n"));
            }
            match answer.generation {
                Some(generation) => print(&format!("generation {generation}\n")),
                None => ExitCode::SUCCESS,
            }
        }
        Ok(answer) => {
            eprint!("{}", answer.problems.unwrap_or_else(|| "error: the gateway refused\n".to_owned()));
            ExitCode::from(if answer.invalid { INVALID } else { FAILED })
        }
        Err(_) if report.has_errors() => {
            // The file does not even say where the gateway is: that is the answer.
            eprint!("{}", report.render(std::io::stderr().is_terminal()));
            ExitCode::from(INVALID)
        }
        Err(error) => {
            eprintln!("error: no gateway answers at {}: {error}", socket::path(&workdir).display());
            ExitCode::from(UNREACHABLE)
        }
    }
}
