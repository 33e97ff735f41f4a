//! Words that problems of all tables share: what a table is called, and remedies that no field has to give.
//!
//! Apart from `reader`, which decides what is wrong; here is only how it is said.

use crate::value::{Kind, Value};

/// `PluginConfig` as `a plugin config`, `Limits` as `[server.limits]`.
pub(crate) fn described(kind: &str) -> String {
    let single = match kind {
        "Document" => "the document",
        "Server" => "[server]",
        "Limits" => "[server.limits]",
        "Log" => "[log]",
        "Status" => "[status]",
        "Cores" => "[cores]",
        "Ring" => "[cores.ring]",
        "Buffers" => "[cores.buffers]",
        "PluginMeta" => "`_meta`",
        "Ssl" => "a certificate",
        "SslClient" => "`client`",
        "UpstreamTls" => "`tls`",
        "Timeout" => "`timeout`",
        "KeepalivePool" => "`keepalive_pool`",
        "Control" => "[control]",
        "Discovery" => "[discovery]",
        "Dns" => "[discovery.dns]",
        "DiscoveryArgs" => "`discovery_args`",
        "Checks" => "`checks`",
        "ActiveCheck" => "`checks.active`",
        "ActiveHealthy" => "`checks.active.healthy`",
        "ActiveUnhealthy" => "`checks.active.unhealthy`",
        "PassiveCheck" => "`checks.passive`",
        "PassiveHealthy" => "`checks.passive.healthy`",
        "PassiveUnhealthy" => "`checks.passive.unhealthy`",
        "Sticky" => "`sticky`",
        "Retry" => "`retry`",
        "Backoff" => "`backoff`",
        "Hedge" => "`hedge`",
        "Queue" => "`queue`",
        "Outlier" => "`outlier`",
        "Breaker" => "`breaker`",
        "ConcurrencyLimit" => "`concurrency_limit`",
        _ => "",
    };
    if !single.is_empty() {
        return single.to_owned();
    }
    let mut words = String::new();
    for letter in kind.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    let article = if words.starts_with(['a', 'e', 'i', 'o']) || words == "upstream" { "an" } else { "a" };
    format!("{article} {words}")
}

/// So many fields of a table are named to who wrote another one.
const FIELDS_SHOWN_MAX: usize = 8;

/// The remedy for a field of which no other has a near name.
pub(crate) fn unknown_help(asked: &[&'static str]) -> String {
    let mut fields = asked.to_vec();
    fields.sort_unstable();
    fields.dedup();
    if fields.is_empty() || fields.len() > FIELDS_SHOWN_MAX {
        return "remove it".to_owned();
    }
    format!("remove it; the fields here are `{}`", fields.join("`, `"))
}

/// How a value of this type is written. What was written is shown only where it is a number: a text may be a secret.
pub(crate) fn type_help(value: &Value, expected: &str) -> String {
    let number = value.as_str().and_then(|text| text.trim().parse::<f64>().ok()).is_some();
    match (expected, &value.kind) {
        ("an integer" | "a number", Kind::String(_)) if number => {
            "write the number without quotes".to_owned()
        }
        ("an integer", _) => "write a whole number, such as 3".to_owned(),
        ("a number", _) => "write a number, such as 3 or 0.5".to_owned(),
        ("a string", Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_)) => "put it in quotes".to_owned(),
        ("a string", _) => "write one text in quotes".to_owned(),
        ("a table", _) => "write { field = value }".to_owned(),
        ("an array", Kind::Integer(number)) => format!("write [{number}]"),
        ("an array", _) => "write a list in brackets: [a, b]".to_owned(),
        ("a string or an array of strings", _) => "write \"text\" or [\"text\", \"text\"]".to_owned(),
        _ => format!("write {expected}"),
    }
}
