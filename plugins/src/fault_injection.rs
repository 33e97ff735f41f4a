//! `fault-injection`: makes requests slow, or answers them with an error.
//!
//! To see what clients do when an upstream is slow or broken, without breaking
//! one. The delay comes first, then the abort is decided; each by its own draw and
//! its own conditions, as in APISIX. `vars` is a list of conditions of which one
//! has to hold; an empty one is refused, since APISIX's reader takes it for "never"
//! and its users for "always".

use std::sync::Arc;
use std::time::Duration;

use config::expr::Expr;
use config::vars::Template;
use config::{Reader, Report};
use serde_json::json;

use crate::fields::{self, AnswerFields};
use crate::{chance, settings, Answer, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

/// As in APISIX's schema.
const VARS_MAX: usize = 20;
/// A request that waits holds its connection and its place on the core.
const DELAY_MAX: Duration = Duration::from_secs(3600);

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "fault-injection",
    priority: 11000,
    phases: Phases::REWRITE,
    schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[routes.plugins.fault-injection.delay]
duration = 0.5              # seconds
percentage = 20

[routes.plugins.fault-injection.abort]
http_status = 503
body = "no stock for $arg_item"
headers = { X-Fault = "injected", Retry-After = 5 }
vars = [[["http_x_test", "==", "fault"]]]
"#,
    build,
};

struct FaultInjection {
    delay: Option<(When, Duration)>,
    abort: Option<(When, Abort)>,
}

/// Which requests a fault strikes.
struct When {
    /// Of a hundred; `None` is all of them.
    percentage: Option<u64>,
    /// One has to hold; none at all is always.
    vars: Vec<Expr>,
}

/// What the client is answered.
struct Abort {
    status: u16,
    body: Option<Template>,
    headers: AnswerFields,
}

impl Plugin for FaultInjection {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_rewrite(&self, x: &mut dyn Exchange, resume: Resume) -> Verdict {
        match &self.delay {
            Some((when, duration)) if !matches!(resume, Resume::Woke) && when.strikes(x) => {
                return Verdict::Wait(*duration);
            }
            _ => {}
        }
        match &self.abort {
            Some((when, abort)) if when.strikes(x) => Verdict::Answer(abort.answer(x)),
            _ => Verdict::Next,
        }
    }
}

impl When {
    fn strikes(&self, x: &mut dyn Exchange) -> bool {
        let drawn = self.percentage.is_none_or(|percentage| chance::below(x, 100) < percentage);
        drawn && (self.vars.is_empty() || self.vars.iter().any(|vars| vars.eval(x.vars())))
    }
}

impl Abort {
    fn answer(&self, x: &dyn Exchange) -> Answer {
        let mut body = Vec::new();
        if let Some(template) = &self.body {
            template.render(x.vars(), None, &mut body);
        }
        Answer { status: self.status, headers: self.headers.render(x), body }
    }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        if !reader.has("delay") && !reader.has("abort") {
            let help = "write abort = { http_status = 503 } or delay = { duration = 1 }";
            settings::problem_here(reader, "`fault-injection` has nothing to do", help);
        }
        let delay = settings::table(reader, "delay", read_delay);
        let abort = settings::table(reader, "abort", read_abort);
        Some(FaultInjection { delay, abort })
    })
}

fn read_delay(reader: &mut Reader<'_, '_>) -> Option<(When, Duration)> {
    let when = read_when(reader);
    reader.require("duration");
    let duration = reader.opt_duration("duration")?;
    if duration > DELAY_MAX {
        let what = format!("a delay is at most {} seconds", DELAY_MAX.as_secs());
        settings::problem(reader, "duration", &what, "write a shorter one");
    }
    Some((when, duration))
}

fn read_abort(reader: &mut Reader<'_, '_>) -> Option<(When, Abort)> {
    let when = read_when(reader);
    reader.require("http_status");
    let status = reader.range("http_status", 200..=599);
    let body = reader.opt_str("body").map(Template::parse);
    let headers = AnswerFields::read_map(reader, "headers");
    Some((when, Abort { status: status? as u16, body, headers }))
}

fn read_when(reader: &mut Reader<'_, '_>) -> When {
    let percentage = reader.range("percentage", 0..=100).map(i64::unsigned_abs);
    let items = reader.opt_array("vars");
    if items.is_some_and(|items| items.is_empty() || items.len() > VARS_MAX) {
        let what = format!("`vars` has 1 to {VARS_MAX} conditions");
        settings::problem(reader, "vars", &what, "leave it out to strike every request");
    }
    let items = items.unwrap_or_default();
    let vars = items.iter().filter_map(|item| Expr::parse(item, reader.report())).collect();
    When { percentage, vars }
}

fn schema() -> serde_json::Value {
    let percentage = json!({ "type": "integer", "minimum": 0, "maximum": 100 });
    let vars = json!({ "type": "array", "minItems": 1, "maxItems": VARS_MAX, "items": { "type": "array" } });
    json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "properties": {
            "abort": {
                "type": "object",
                "additionalProperties": false,
                "required": ["http_status"],
                "properties": {
                    "http_status": { "type": "integer", "minimum": 200, "maximum": 599 },
                    "body": { "type": "string" },
                    "headers": fields::map_schema(),
                    "percentage": percentage,
                    "vars": vars
                }
            },
            "delay": {
                "type": "object",
                "additionalProperties": false,
                "required": ["duration"],
                "properties": {
                    "duration": {
                        "anyOf": [
                            { "type": "number", "minimum": 0, "maximum": DELAY_MAX.as_secs() },
                            { "type": "string" }
                        ]
                    },
                    "percentage": percentage,
                    "vars": vars
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, verdict_text, FakeExchange};

    /// What is said at first, and after `->` what is said once the wait is over.
    #[track_caller]
    fn check(settings: serde_json::Value, request: &str, want: &str) {
        let plugin = build("fault-injection", settings).expect("settings hold");
        let mut x = FakeExchange::new(request);
        let mut said = verdict_text(&plugin.on_rewrite(&mut x, Resume::Start));
        if said.starts_with("Wait") {
            said.push_str(" -> ");
            said.push_str(&verdict_text(&plugin.on_rewrite(&mut x, Resume::Woke)));
        }
        assert_eq!(said, want, "{request}");
    }

    #[test]
    fn aborts() {
        check(json!({"abort": {"http_status": 403}}), "GET /", "403");
        check(json!({"abort": {"http_status": 200, "body": ""}}), "GET /", "200");
        check(
            json!({"abort": {
                "http_status": 500,
                "body": "no $arg_name from $remote_addr, $$5",
                "headers": {"X-Name": "$arg_name", "X-Number": 7}
            }}),
            "GET /?name=a%0d%0aX-Evil:%201",
            "500 | X-Name: a  X-Evil: 1 | X-Number: 7 || no a\r\nX-Evil: 1 from 192.0.2.7, $5",
        );
    }

    #[test]
    fn delays_first() {
        check(json!({"delay": {"duration": 0.25}}), "GET /", "Wait(250ms) -> Next");
        check(json!({"delay": {"duration": "2s"}}), "GET /", "Wait(2s) -> Next");
        check(json!({"delay": {"duration": 0}}), "GET /", "Wait(0ns) -> Next");
        check(json!({"delay": {"duration": 1}, "abort": {"http_status": 502}}), "GET /", "Wait(1s) -> 502");
        check(
            json!({"delay": {"duration": 1, "percentage": 0}, "abort": {"http_status": 502}}),
            "GET /",
            "502",
        );
    }

    #[test]
    fn one_of_the_conditions_has_to_hold() {
        let either =
            json!([[["arg_name", "==", "jack"], ["arg_age", ">", 18]], [["http_x_test", "==", "1"]]]);
        let settings = json!({"abort": {"http_status": 403, "vars": either}});
        check(settings.clone(), "GET /?name=jack&age=19", "403");
        check(settings.clone(), "GET /?name=jack&age=18", "Next");
        check(settings.clone(), "GET /?name=rose | X-Test: 1", "403");
        check(settings, "GET /", "Next");
        // A condition without the list around it, as routes have it.
        check(json!({"abort": {"http_status": 403, "vars": [["arg_a", "==", "1"]]}}), "GET /?a=1", "403");
        let each = json!({
            "delay": {"duration": 1, "vars": [[["arg_a", "==", "1"]]]},
            "abort": {"http_status": 403, "vars": [[["arg_b", "==", "1"]]]}
        });
        check(each.clone(), "GET /?a=1", "Wait(1s) -> Next");
        check(each.clone(), "GET /?b=1", "403");
        check(each, "GET /?a=1&b=1", "Wait(1s) -> 403");
    }

    #[test]
    fn a_percentage_of_requests_is_struck() {
        #[track_caller]
        fn check(percentage: u32, least: usize, most: usize) {
            let abort = json!({"abort": {"http_status": 403, "percentage": percentage}});
            let plugin = build("fault-injection", abort).expect("settings hold");
            let mut x = FakeExchange::new("GET /");
            let struck = |_: &usize| !matches!(x.ask(&*plugin), Verdict::Next);
            let count = (0..10_000).filter(struck).count();
            assert!((least..=most).contains(&count), "{count} of 10,000 for {percentage} %");
        }
        check(0, 0, 0);
        check(1, 50, 150);
        check(30, 2_800, 3_200);
        check(99, 9_850, 9_950);
        check(100, 10_000, 10_000);
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(settings: serde_json::Value, want: &str) {
            let problems = build("fault-injection", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        check(json!({}), "`fault-injection` has nothing to do (write abort");
        check(json!({"abort": {}}), "`http_status` is missing");
        check(json!({"delay": {}}), "`duration` is missing");
        check(json!({"abort": {"http_status": 199}}), "`http_status` is out of range: 199");
        check(json!({"abort": {"http_status": 600}}), "`http_status` is out of range: 600");
        check(json!({"abort": {"http_status": 200, "percentage": 101}}), "`percentage` is out of range: 101");
        check(json!({"delay": {"duration": 1, "percentage": -1}}), "`percentage` is out of range: -1");
        check(json!({"delay": {"duration": -1}}), "`duration` is no duration: -1");
        check(json!({"delay": {"duration": 3601}}), "a delay is at most 3600 seconds (write a shorter one)");
        check(json!({"delay": {"duration": 1, "vars": []}}), "`vars` has 1 to 20 conditions (leave it out");
        check(json!({"delay": {"duration": 1, "vars": [[["a", "=", 1]]]}}), "unknown operator `=`");
        check(json!({"delay": {"duration": 1, "vars": ["a"]}}), "expected an array of conditions");
        check(json!({"abort": {"http_status": 200, "headers": {}}}), "`headers` is empty");
        check(json!({"abort": {"http_status": 200, "headers": {"A B": "1"}}}), "`A B` is no field name");
        check(json!({"abort": {"http_status": 200, "header": {}}}), "unknown field `header`");
        check(json!({"abort": 503}), "expected a table, found an integer");
    }
}
