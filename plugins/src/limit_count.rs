//! `limit-count`: so many requests in so much time.
//!
//! Exact over all cores of this process (APISIX's `local` policy is exact over its
//! workers likewise). The Redis policies count over several gateways and come with
//! the Redis client of a later issue; they are refused here, not taken for `local`.
//!
//! A key that is missing falls back to the client's address, so that leaving out a
//! header opens nothing. A rule whose variables are all missing does not apply; a
//! rule that applies and whose numbers do not resolve rejects with 500.

mod read;

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;

use config::vars::{Template, Var, Vars};

pub(crate) use read::{check_groups, nested};

use crate::limit::{Decision, Owner, Quota, Window};
use crate::{Answer, Exchange, Phases, Plugin, PluginInfo, Resume, SharedState, Verdict};

/// APISIX's bound for a number from a variable: 2^53 - 1.
const NUMBER_MAX: u64 = (1 << 53) - 1;
pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "limit-count",
    priority: 1002,
    phases: Phases::ACCESS,
    schema: read::schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[routes.plugins.limit-count]
count = 100
time_window = 60            # seconds
window_type = "sliding"
key_type = "var_combination"
key = "$remote_addr $http_x_api_key"
rejected_code = 429
rejected_msg = "slow down"
"#,
    build: read::build,
};

/// Of a rendered key's memory, what a thread keeps for the next one.
const KEY_BYTES_KEPT: usize = 4096;

/// An instance; `workflow` holds such as well.
pub(crate) struct LimitCount {
    shared: SharedState,
    limits: Vec<Limit>,
    window: Window,
    rejected: Answer,
    show_headers: bool,
    /// Let requests pass whose numbers do not resolve.
    degrade: bool,
}

/// One count of one key.
struct Limit {
    owner: Owner,
    count: Number,
    window_millis: Number,
    key: Key,
    headers: HeaderNames,
}

/// A number, known or rendered for each request.
enum Number {
    Known(u64),
    /// A text with variables, and what one of its units is worth.
    Rendered(Template, u64),
}

/// What is counted.
enum Key {
    /// The client's address, without a variable's text.
    Address,
    Var(Var),
    /// Variables together; where none is set, the address, or (a rule) nothing.
    Combination {
        template: Template,
        is_rule: bool,
    },
    Constant(String),
}

/// Names of the fields that tell the client.
struct HeaderNames {
    limit: String,
    remaining: String,
    reset: String,
}

impl Plugin for LimitCount {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_access(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let mut applied = false;
        for limit in &self.limits {
            let quota = match limit.quota(self.window, x) {
                Some(quota) => quota,
                None if !limit.applies(x) => continue,
                None => return self.unresolved(),
            };
            let Some(decision) = self.take(limit, &quota, x) else { continue };
            applied = true;
            if self.show_headers {
                limit.headers.add(x, &quota, &decision);
            }
            if !decision.allowed {
                return Verdict::Answer(self.rejected.clone());
            }
        }
        if applied {
            Verdict::Next
        } else {
            self.unresolved()
        }
    }
}

impl LimitCount {
    /// No limit could be found for this request.
    fn unresolved(&self) -> Verdict {
        if self.degrade {
            Verdict::Next
        } else {
            Verdict::Answer(Answer::status(500))
        }
    }

    /// `None` if the limit does not apply to this request.
    fn take(&self, limit: &Limit, quota: &Quota, x: &dyn Exchange) -> Option<Decision> {
        let take = |key: &[u8]| Some(self.shared.take(limit.owner, key, x.now_millis(), quota));
        match &limit.key {
            Key::Constant(text) => take(text.as_bytes()),
            Key::Var(name) => match x.var(name) {
                Some(value) => take(&value),
                None => take_address(x.client_addr(), take),
            },
            Key::Address => take_address(x.client_addr(), take),
            Key::Combination { template, is_rule } => resolve(template, x.vars(), |key| match key {
                Some(key) => take(key),
                None if *is_rule => None,
                None => take_address(x.client_addr(), take),
            }),
        }
    }
}

fn take_address<T>(address: IpAddr, take: impl FnOnce(&[u8]) -> T) -> T {
    match address {
        IpAddr::V4(address) => take(&address.octets()),
        IpAddr::V6(address) => take(&address.octets()),
    }
}

impl Limit {
    /// `None` if a number does not resolve.
    fn quota(&self, window: Window, x: &dyn Exchange) -> Option<Quota> {
        let limit = self.count.resolve(x)?;
        let window_millis = self.window_millis.resolve(x)?;
        Some(Quota { limit, window_millis, window })
    }

    fn applies(&self, x: &dyn Exchange) -> bool {
        match &self.key {
            Key::Combination { template, is_rule: true } => resolve(template, x.vars(), |key| key.is_some()),
            _ => true,
        }
    }
}

impl Number {
    fn resolve(&self, x: &dyn Exchange) -> Option<u64> {
        match self {
            Number::Known(number) => Some(*number),
            Number::Rendered(template, unit) => {
                let mut text = Vec::new();
                template.render(x.vars(), None, &mut text);
                let number: u64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
                (1..=NUMBER_MAX).contains(&number).then(|| number.saturating_mul(*unit))
            }
        }
    }
}

/// Renders a key for `then`; `None` if not one of its variables is set.
fn resolve<T>(template: &Template, vars: &dyn Vars, then: impl FnOnce(Option<&[u8]>) -> T) -> T {
    // Kept per thread: a key that was seen before costs no allocation.
    thread_local!(static KEY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
    let mut key = KEY.take();
    key.clear();
    let counting = Counting { vars, found: Cell::new(false) };
    template.render(&counting, None, &mut key);
    let result = then(counting.found.get().then_some(&key[..]));
    key.shrink_to(KEY_BYTES_KEPT);
    KEY.set(key);
    result
}

/// Variables, and whether one that was asked for was set.
struct Counting<'a> {
    vars: &'a dyn Vars,
    found: Cell<bool>,
}

impl Vars for Counting<'_> {
    fn var(&self, name: &Var) -> Option<Cow<'_, [u8]>> {
        let value = self.vars.var(name)?;
        self.found.set(true);
        Some(value)
    }
}

impl HeaderNames {
    fn new(prefix: Option<&str>) -> HeaderNames {
        let infix = prefix.map(|prefix| format!("{prefix}-")).unwrap_or_default();
        let name = |last| format!("X-{infix}RateLimit-{last}");
        HeaderNames { limit: name("Limit"), remaining: name("Remaining"), reset: name("Reset") }
    }

    fn add(&self, x: &mut dyn Exchange, quota: &Quota, decision: &Decision) {
        let mut digits = [0; 24];
        x.add_response_header(&self.limit, decimal(quota.limit, &mut digits));
        x.add_response_header(&self.remaining, decimal(decision.remaining, &mut digits));
        x.add_response_header(&self.reset, seconds(decision.reset_millis, quota.window, &mut digits));
    }
}

/// `number` in decimal digits, at the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 24]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

/// Seconds, rounded up: whole ones for a fixed window, hundredths for a sliding
/// one, as APISIX says them.
fn seconds(millis: u64, window: Window, digits: &mut [u8; 24]) -> &[u8] {
    let hundredths = millis.div_ceil(10);
    if window == Window::Fixed || hundredths % 100 == 0 {
        return decimal(millis.div_ceil(1000), digits);
    }
    let part = (hundredths % 100) as u8;
    let length = decimal(hundredths / 100, digits).len();
    // Room for the point and two digits behind the whole seconds.
    digits.copy_within(24 - length.., 21 - length);
    digits[21] = b'.';
    digits[22] = b'0' + part / 10;
    digits[23] = b'0' + part % 10;
    let end = if part % 10 == 0 { 23 } else { 24 };
    &digits[21 - length..end]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::Report;
    use serde_json::json;

    use super::*;
    use crate::fake::{self, build, build_in, verdict_text, FakeExchange};

    /// Requests, one a line, with what they are told: `<at ms> <request> -> <verdict and fields>`.
    #[track_caller]
    fn check(settings: serde_json::Value, script: &str) {
        let plugin = build("limit-count", settings).expect("settings hold");
        for line in script.lines().map(str::trim_start) {
            let (request, want) = line.split_once(" -> ").expect("request -> answer");
            let (at, request) = request.split_once(' ').expect("time request");
            let mut x = FakeExchange::new(request);
            x.now_millis = at.parse().expect("a time");
            let verdict = x.ask(&*plugin);
            assert_eq!(format!("{}{}", verdict_text(&verdict), x.added_text()), want, "{line}");
        }
    }

    fn quota(limit: &str, remaining: &str, reset: &str) -> String {
        format!(
            " | X-RateLimit-Limit: {limit} | X-RateLimit-Remaining: {remaining} | X-RateLimit-Reset: {reset}"
        )
    }

    #[test]
    fn a_fixed_window() {
        let script = format!(
            "1000 GET / -> Next{}
             1500 GET / -> Next{}
             2000 GET / -> 503{}
             60999 GET / -> 503{}
             61000 GET / -> Next{}",
            quota("2", "1", "60"),
            quota("2", "0", "60"),
            quota("2", "0", "59"),
            quota("2", "0", "1"),
            quota("2", "1", "60"),
        );
        check(json!({"count": 2, "time_window": 60}), &script);
        check(json!({"count": "2", "time_window": "60"}), &script);
        check(json!({"count": 2, "time_window": "1m"}), &script);
        check(json!({"count": 2, "time_window": 60, "key_type": "constant", "key": "all"}), &script);
    }

    #[test]
    fn a_sliding_window() {
        let script = format!(
            "60000 GET / -> Next{}
             61234 GET / -> Next{}
             61500 GET / -> 503{}
             90000 GET / -> 503{}
             120000 GET / -> 503{}
             150000 GET / -> Next{}",
            quota("2", "1", "60"),
            quota("2", "0", "58.77"),
            quota("2", "0", "58.5"),
            quota("2", "0", "30"),
            quota("2", "0", "0.01"),
            quota("2", "0", "30"),
        );
        check(json!({"count": 2, "time_window": 60, "window_type": "sliding"}), &script);
    }

    #[test]
    fn keys() {
        let one = |key_type, key| json!({"count": 1, "time_window": 9, "key_type": key_type, "key": key, "show_limit_quota_header": false});
        check(
            one("var", "http_x_key"),
            "1 GET / | X-Key: a -> Next
             1 GET / | X-Key: b -> Next
             1 GET / | X-Key: a -> 503
             1 GET / -> Next
             1 GET / -> 503",
        );
        check(
            one("var_combination", "$http_a $http_b"),
            "1 GET / | A: 1 -> Next
             1 GET / | A: 1 | B: 1 -> Next
             1 GET / | A: 1 -> 503
             1 GET / -> Next
             1 GET / | B: 1 -> Next
             1 GET / -> 503",
        );
    }

    #[test]
    fn numbers_from_variables() {
        let settings = json!({
            "count": "$http_x_count", "time_window": "${http_x_window}",
            "rejected_code": 429, "rejected_msg": "too \"many\""
        });
        let script = format!(
            "1 GET / | X-Count: 1 | X-Window: 5 -> Next{}
             1 GET / | X-Count: 1 | X-Window: 5 -> 429 | Content-Type: application/json || {}\n{}
             1 GET / | X-Count: 3 | X-Window: 5 -> Next{}
             1 GET / | X-Count: 0 | X-Window: 5 -> 500
             1 GET / | X-Count: 1.5 | X-Window: 5 -> 500
             1 GET / | X-Count: 9007199254740992 | X-Window: 5 -> 500
             1 GET / | X-Count: 2 -> 500",
            quota("1", "0", "5"),
            "{\"error_msg\":\"too \\\"many\\\"\"}",
            quota("1", "0", "5"),
            quota("3", "1", "5"),
        );
        // The body ends with a line feed, which would end the script's line.
        let script = script.replace("}\n |", "}~ |");
        let plugin = build("limit-count", settings).expect("settings hold");
        for line in script.lines().map(str::trim_start) {
            let (request, want) = line.split_once(" -> ").expect("request -> answer");
            let mut x = FakeExchange::new(request.split_once(' ').expect("time request").1);
            let verdict = x.ask(&*plugin);
            assert_eq!(
                format!("{}{}", verdict_text(&verdict), x.added_text()),
                want.replace('~', "\n"),
                "{line}"
            );
        }
        let degraded = json!({"count": "$http_x_count", "time_window": 5, "allow_degradation": true});
        check(degraded, "1 GET / -> Next");
    }

    #[test]
    fn rules() {
        let rules = json!({"rules": [
            {"count": 1, "time_window": 10, "key": "$http_user", "header_prefix": "User"},
            {"count": "$http_max", "time_window": 10, "key": "$http_org"}
        ]});
        let user = |remaining| {
            format!(" | X-User-RateLimit-Limit: 1 | X-User-RateLimit-Remaining: {remaining} | X-User-RateLimit-Reset: 10")
        };
        let org = |remaining| {
            format!(
                " | X-2-RateLimit-Limit: 2 | X-2-RateLimit-Remaining: {remaining} | X-2-RateLimit-Reset: 10"
            )
        };
        check(
            rules,
            &format!(
                "1 GET / | User: a | Org: o | Max: 2 -> Next{}{}
                 1 GET / | User: a | Org: o | Max: 2 -> 503{}
                 1 GET / | Org: o | Max: 2 -> Next{}
                 1 GET / | Org: o | Max: 2 -> 503{}
                 1 GET / | User: b -> Next{}
                 1 GET / | Org: o -> 500
                 1 GET / -> 500",
                user("0"),
                org("1"),
                user("0"),
                org("0"),
                org("0"),
                user("0"),
            ),
        );
    }

    #[test]
    fn owners_and_groups() {
        let shared = SharedState::new();
        let passes = |owner, settings: serde_json::Value| {
            let plugin = build_in(&shared, owner, "limit-count", settings).expect("settings hold");
            matches!(FakeExchange::new("GET /").ask(&*plugin), Verdict::Next)
        };
        let one = json!({"count": 1, "time_window": 9});
        assert!(passes("route:a", one.clone()));
        assert!(!passes("route:a", one.clone())); // built anew from the same settings: a reload
        assert!(passes("route:b", one));
        assert!(passes("route:a", json!({"count": 1, "time_window": 8}))); // changed settings begin anew
        let group = json!({"count": 1, "time_window": 9, "group": "g"});
        assert!(passes("route:a", group.clone()));
        assert!(!passes("route:b", group));
        assert!(passes("route:b", json!({"count": 1, "time_window": 9, "group": "h"})));
    }

    #[test]
    fn members_of_a_group_are_alike() {
        let problems = |entries: &[serde_json::Value]| {
            let entries: Vec<_> =
                entries.iter().map(|entry| fake::entry("limit-count", entry.clone())).collect();
            let mut report = Report::new();
            check_groups(entries.iter(), &mut report);
            fake::problems(&report)
        };
        let (one, two) = (json!({"count": 1, "group": "g"}), json!({"count": 2, "group": "g"}));
        assert_eq!(problems(&[one.clone(), one.clone(), json!({"count": 3}), json!({"count": 4})]), "");
        let differ = "the settings of group `g` differ (all of the group are written alike)";
        assert_eq!(problems(&[one.clone(), one, two]), differ);
    }

    #[test]
    fn exactly_the_count_passes_over_all_threads() {
        let plugin = build("limit-count", json!({"count": 1000, "time_window": 60})).expect("settings hold");
        let serve = |plugin: Arc<dyn Plugin>| {
            (0..400).filter(|_| matches!(FakeExchange::new("GET /").ask(&*plugin), Verdict::Next)).count()
        };
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let plugin = Arc::clone(&plugin);
                std::thread::spawn(move || serve(plugin))
            })
            .collect();
        let passed: usize = threads.into_iter().map(|thread| thread.join().expect("it serves")).sum();
        assert_eq!(passed, 1000);
    }

    #[test]
    fn decimals() {
        let check = |number, want: &str| assert_eq!(decimal(number, &mut [0; 24]), want.as_bytes());
        check(0, "0");
        check(10, "10");
        check(u64::MAX, "18446744073709551615");
        let check = |millis, window, want: &str| {
            let mut digits = [0; 24];
            assert_eq!(String::from_utf8_lossy(seconds(millis, window, &mut digits)), want);
        };
        check(1, Window::Fixed, "1");
        check(60_000, Window::Fixed, "60");
        check(1, Window::Sliding, "0.01");
        check(1_230, Window::Sliding, "1.23");
        check(1_200, Window::Sliding, "1.2");
        check(12_345_678_900, Window::Sliding, "12345678.9");
        check(991, Window::Sliding, "1");
        check(u64::MAX, Window::Sliding, "18446744073709551.62");
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(settings: serde_json::Value, want: &str) {
            let problems = build("limit-count", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        check(json!({"time_window": 1}), "`count` is missing");
        check(json!({"count": 0, "time_window": 1}), "`count` is a whole number above 0");
        check(json!({"count": 1.5, "time_window": 1}), "`count` is a whole number above 0");
        check(json!({"count": "many", "time_window": 1}), "`count` is a whole number above 0");
        check(json!({"count": 1, "time_window": -1}), "`time_window` is a whole number above 0");
        check(json!({"count": 1, "time_window": 1, "key": ""}), "a key is not empty");
        check(
            json!({"count": 1, "time_window": 1, "key": "$remote_addr"}),
            "`$remote_addr` is no variable's name",
        );
        check(json!({"count": 1, "time_window": 1, "group": ""}), "a group's name is not empty");
        check(
            json!({"count": 1, "time_window": 1, "rejected_code": 199}),
            "`rejected_code` is out of range: 199",
        );
        check(json!({"count": 1, "time_window": 1, "rejected_msg": ""}), "a message is not empty");
        check(json!({"count": 1, "time_window": 1, "window_type": "slide"}), "unknown window type `slide`");
        let redis = json!({"count": 1, "time_window": 1, "policy": "redis", "redis_host": "h"});
        let problems = build("limit-count", redis).err().unwrap_or_default();
        assert_eq!(
            problems,
            "this `policy` is not built yet (write `local`, which is exact over all of its cores)"
        );
        check(json!({"count": 1, "time_window": 1, "redis_host": "h"}), "`redis_host` is not built yet");
        let rule = json!({"count": 1, "time_window": 1, "key": "$http_a"});
        check(json!({"rules": []}), "`rules` has 1 to 64 tables");
        check(json!({"count": 1, "rules": [rule]}), "`count` and `rules` exclude each other");
        check(json!({"rules": [rule, rule]}), "two rules have this key");
        check(
            json!({"rules": [{"count": 1, "time_window": 1, "key": "a"}]}),
            "a rule's key names a variable",
        );
        check(json!({"rules": [{"count": 1, "time_window": 1}]}), "`key` is missing");
        let prefix = json!({"count": 1, "time_window": 1, "key": "$uri", "header_prefix": "a b"});
        check(json!({"rules": [prefix]}), "this cannot stand in a field's name");
    }
}
