//! What of a request decides its endpoint: the key of a hash, and the cookie that
//! names an endpoint.

use std::fmt::Write as _;
use std::rc::Rc;

use config::balance::{HashOn, SameSite, Sticky};
use config::vars::{Var, Vars};

use super::exchange::Exchange;
use crate::plan::CoreUpstream;

/// Puts what `hash_on` says into `x.key`; the client's address where that is empty (as APISIX).
pub fn hash_key(x: &mut Exchange, upstream: &CoreUpstream) {
    let mut key = std::mem::take(&mut x.key);
    key.clear();
    {
        let add = |key: &mut Vec<u8>, found: Option<std::borrow::Cow<'_, [u8]>>| {
            key.extend_from_slice(&found.unwrap_or_default());
        };
        match &upstream.plan.source.hash_on {
            None => {}
            Some(HashOn::Var(Var::RemoteAddr)) => {}
            Some(HashOn::Var(var)) => add(&mut key, x.var(var)),
            Some(HashOn::Header(name)) => add(&mut key, x.request.get_named(name.as_bytes()).map(Into::into)),
            Some(HashOn::Cookie(name)) => {
                add(&mut key, proto::cookie::get(&x.request, name.as_bytes()).map(Into::into));
            }
            Some(HashOn::Consumer) => add(&mut key, x.var(&Var::ConsumerName)),
            Some(HashOn::Combination(template)) => template.render(&*x, None, &mut key),
        }
    }
    if key.is_empty() {
        key.extend_from_slice(x.address_texts.client.of(x.client).as_bytes());
    }
    x.key = key;
}

/// The endpoint that the request's sticky cookie names.
pub fn named_endpoint(x: &Exchange, upstream: &CoreUpstream) -> Option<usize> {
    let sticky = upstream.plan.source.sticky.as_ref()?;
    let cookie = proto::cookie::get(&x.request, sticky.cookie.as_bytes())?;
    upstream.plan.rules.sticky_endpoint(cookie)
}

/// Whether the request's session is at this endpoint.
pub fn has_session(x: &Exchange, upstream: &CoreUpstream, index: usize) -> bool {
    named_endpoint(x, upstream) == Some(index)
}

/// Has the answer set the cookie of the endpoint that is tried now, where the client has another or none.
pub fn remember(x: &mut Exchange, upstream: &Rc<CoreUpstream>, index: usize, named: Option<usize>) {
    let Some(sticky) = &upstream.plan.source.sticky else { return };
    x.sticky_cookie = match named == Some(index) {
        true => None,
        false => Some(set_cookie(sticky, upstream.plan.rules.sticky_value(index))),
    };
}

/// RFC 6265 section 4.1.1.
fn set_cookie(sticky: &Sticky, value: &str) -> String {
    let mut text = format!("{}={value}; Path={}", sticky.cookie, sticky.path);
    if let Some(domain) = &sticky.domain {
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(ttl) = sticky.ttl {
        let _ = write!(text, "; Max-Age={}", ttl.as_secs());
    }
    if sticky.http_only {
        text.push_str("; HttpOnly");
    }
    if sticky.secure {
        text.push_str("; Secure");
    }
    text.push_str(match sticky.same_site {
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(change: impl Fn(&mut Sticky), expected: &str) {
        let mut sticky = Sticky {
            cookie: "rw_s".into(),
            ttl: None,
            path: "/".into(),
            domain: None,
            http_only: true,
            secure: false,
            same_site: SameSite::Lax,
        };
        change(&mut sticky);
        assert_eq!(set_cookie(&sticky, "v"), expected);
    }

    #[test]
    fn attributes() {
        check(|_| {}, "rw_s=v; Path=/; HttpOnly; SameSite=Lax");
        check(
            |sticky| {
                sticky.ttl = Some(Duration::from_secs(90));
                sticky.domain = Some("a.test".into());
                sticky.secure = true;
                sticky.http_only = false;
                sticky.same_site = SameSite::None;
            },
            "rw_s=v; Path=/; Domain=a.test; Max-Age=90; Secure; SameSite=None",
        );
    }
}
