//! `sticky`: the cookie by which a client comes back to the node that it had.

use std::time::Duration;

use crate::names;
use crate::reader::Reader;
use crate::report::{Problem, Report};
use crate::value::Value;

/// `sticky`: a cookie that names the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Sticky {
    /// Its name. Default `rw_s`.
    pub cookie: String,
    /// `Max-Age`; without one it ends with the client's session.
    pub ttl: Option<Duration>,
    /// `Path`. Default `/`.
    pub path: String,
    /// `Domain`
    pub domain: Option<String>,
    /// `HttpOnly`. Default true.
    pub http_only: bool,
    /// `Secure`. Default false: the listener may be in the clear.
    pub secure: bool,
    /// `SameSite`. Default `Lax`.
    pub same_site: SameSite,
}

/// The cookie attribute `SameSite`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Sent with top-level navigation from elsewhere.
    #[default]
    Lax,
    /// Sent from the same site alone.
    Strict,
    /// Sent always; browsers want `Secure` with it.
    None,
}

impl Default for Sticky {
    fn default() -> Sticky {
        Sticky {
            cookie: "rw_s".to_owned(),
            ttl: None,
            path: "/".to_owned(),
            domain: None,
            http_only: true,
            secure: false,
            same_site: SameSite::Lax,
        }
    }
}

impl Sticky {
    /// Reads `sticky`.
    pub(super) fn read(value: &Value, report: &mut Report) -> Sticky {
        let mut reader = Reader::of("Sticky", value, report);
        let default = Sticky::default();
        let sticky = Sticky {
            cookie: cookie(&mut reader).unwrap_or(default.cookie),
            ttl: ttl(&mut reader),
            path: path(&mut reader).unwrap_or(default.path),
            domain: domain(&mut reader),
            http_only: reader.opt_bool("http_only").unwrap_or(default.http_only),
            secure: reader.opt_bool("secure").unwrap_or(default.secure),
            same_site: same_site(&mut reader).unwrap_or_default(),
        };
        sticky.check(&mut reader);
        reader.finish();
        sticky
    }

    /// What browsers drop a cookie for (RFC 6265bis sections 4.1.3 and 5.7).
    fn check(&self, reader: &mut Reader<'_, '_>) {
        let mut refuse = |field, what: &str, help| {
            let place = reader.value_place(field);
            let problem = Problem::error(place, what).label("browsers drop such a cookie");
            reader.report().push(problem.help(help));
        };
        if self.same_site == SameSite::None && !self.secure {
            refuse("same_site", "`same_site = \"none\"` without `secure`", "write secure = true as well");
        }
        let prefixed =
            |prefix: &str| self.cookie.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
        if prefixed("__Secure-") && !self.secure {
            refuse("cookie", "a `__Secure-` cookie without `secure`", "write secure = true as well");
        }
        if prefixed("__Host-") && (!self.secure || self.path != "/" || self.domain.is_some()) {
            let help = "write secure = true and leave `path` and `domain` out";
            refuse("cookie", "a `__Host-` cookie needs `secure`, the path `/` and no domain", help);
        }
    }
}

fn cookie(reader: &mut Reader<'_, '_>) -> Option<String> {
    let name = reader.opt_str("cookie")?;
    if names::is_token(name) && name.len() <= names::ID_BYTES_MAX {
        return Some(name.to_owned());
    }
    let place = reader.value_place("cookie");
    let problem = Problem::error(place, format!("invalid cookie name `{name}`"));
    let label = "must be a token (RFC 6265 section 4.1.1) of 1 to 64 characters";
    reader.report().push(problem.label(label).help("write cookie = \"rw_s\""));
    None
}

/// A second at least: `Max-Age` has whole ones, and 0 would delete the cookie.
fn ttl(reader: &mut Reader<'_, '_>) -> Option<Duration> {
    let ttl = reader.opt_duration("ttl")?;
    if ttl >= Duration::from_secs(1) {
        return Some(ttl);
    }
    let place = reader.value_place("ttl");
    let problem = Problem::error(place, format!("`ttl` is out of range: {ttl:?}"));
    let help = "leave it out for a cookie that ends with the client's session";
    reader.report().push(problem.label("must be at least 1s").help(help));
    None
}

fn path(reader: &mut Reader<'_, '_>) -> Option<String> {
    let path = reader.opt_str("path")?;
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if path.starts_with('/') && path.bytes().all(visible) && path.len() <= names::URI_BYTES_MAX {
        return Some(path.to_owned());
    }
    let place = reader.value_place("path");
    let problem = Problem::error(place, format!("invalid path `{path}`"));
    reader.report().push(problem.label("begins with `/`, without spaces and `;`").help("write path = \"/\""));
    None
}

fn domain(reader: &mut Reader<'_, '_>) -> Option<String> {
    let domain = reader.opt_str("domain")?;
    // RFC 6265 section 5.2.3: a leading dot is ignored.
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    let Some(fault) = names::host_fault(bare) else { return Some(bare.to_ascii_lowercase()) };
    let place = reader.value_place("domain");
    let problem = Problem::error(place, format!("invalid domain `{domain}`")).label(fault);
    reader.report().push(problem.help("write domain = \"example.com\""));
    None
}

/// The three words, with or without a capital.
fn same_site(reader: &mut Reader<'_, '_>) -> Option<SameSite> {
    let words = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    let written = reader.peek("same_site").and_then(Value::as_str);
    match words.iter().find(|(word, _)| written.is_some_and(|it| it.eq_ignore_ascii_case(word))) {
        Some((_, meaning)) => {
            reader.entry("same_site");
            Some(*meaning)
        }
        None => reader.one_of("same_site", &words),
    }
}
