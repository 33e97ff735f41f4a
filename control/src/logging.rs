//! Diagnostics: text on a terminal, JSON lines elsewhere, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Lets a reload change the level.
pub struct Level(Option<Handle<EnvFilter, Registry>>);

impl Level {
    /// Sets the level, unless `RUST_LOG` rules.
    pub fn set(&self, level: &str) {
        if let (Some(handle), None) = (&self.0, std::env::var_os("RUST_LOG")) {
            let _ = handle.reload(filter(level));
        }
    }
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Sets diagnostics up once for the process.
pub fn init(log: &config::Log) -> Level {
    let chosen = std::env::var("RUST_LOG").unwrap_or_else(|_| log.level.clone());
    let (filter, handle) = reload::Layer::new(filter(&chosen));
    let text = match log.diagnostics {
        config::Diagnostics::Auto => std::io::stderr().is_terminal(),
        config::Diagnostics::Text => true,
        config::Diagnostics::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if text { lines.with_target(false).boxed() } else { lines.json().boxed() };
    // A second call in one process (tests) keeps the first subscriber.
    let installed = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Level(installed.is_ok().then_some(handle))
}
