//! `[log]` and `[status]`: what can be seen of the gateway, and where.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What diagnostics are written: a level, or targets as in RUST_LOG (`info,ringway=debug`).
    pub level: String,
    /// Where the access log goes.
    pub access: Access,
    /// Whether `access` was left out: then it goes to stdout only where that is no terminal.
    pub access_is_default: bool,
    /// The form of its lines.
    pub format: Format,
    /// The form of diagnostics.
    pub diagnostics: Diagnostics,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To a file, reopened on SIGUSR1.
    Path(PathBuf),
}

/// The form of the access log's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The combined format of Apache httpd and nginx.
    Combined,
    /// Text with `$variables` (see [`Template`](crate::vars::Template)).
    Template(String),
}

/// The form of diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnostics {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}

/// `[status]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where `/status` and `/metrics` are served; `None` is `listen = "off"`.
    pub listen: Option<SocketAddr>,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: "info".to_owned(),
            access: Access::Stdout,
            access_is_default: true,
            format: Format::Json,
            diagnostics: Diagnostics::Auto,
        }
    }
}

impl Default for Status {
    fn default() -> Status {
        Status { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9091))) }
    }
}
