//! `api-breaker`: lets a path of a host rest that its upstream fails on.
//!
//! The status that the upstream answered decides, the 502 or 504 that stands for
//! its failure as well; an answer of the gateway itself says nothing. The rule is
//! in `limit::breaker`. The state belongs to the resource that the entry is written
//! in, to the request's host and to its path, is one for all cores, and survives a
//! reload that leaves the settings as they were. While nothing fails a request costs
//! one read of a number that no one writes. An outcome counts when its head is there
//! and before the client sees it (APISIX: in its log phase, after it), so that whoever
//! asks one by one meets the break exactly when it is due.
//!
//! `break_response_headers` are sent with or without `break_response_body`; APISIX
//! leaves them out where there is no body.

use std::sync::Arc;

use config::vars::Var;
use config::{Reader, Report};
use serde_json::json;

use crate::fields::AnswerFields;
use crate::limit::{BreakerPath, BreakerRule, Owner};
use crate::{settings, Answer, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, SharedState, Verdict};

/// Unless `http_statuses` says otherwise.
const UNHEALTHY: u16 = 500;
/// Likewise.
const HEALTHY: u16 = 200;
/// Unless `failures` or `successes` says otherwise.
const COUNT: u64 = 3;

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "api-breaker",
    priority: 1005,
    phases: Phases::ACCESS.and(Phases::RESPONSE),
    schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[routes.plugins.api-breaker]
break_response_code = 503
break_response_body = '{"message":"back soon"}'
break_response_headers = [{ key = "Content-Type", value = "application/json" }]
max_breaker_sec = 60
unhealthy = { http_statuses = [500, 502, 504], failures = 5 }
healthy = { http_statuses = [200, 204], successes = 2 }
"#,
    build,
};

struct ApiBreaker {
    shared: SharedState,
    owner: Owner,
    rule: BreakerRule,
    unhealthy: Vec<u16>,
    healthy: Vec<u16>,
    status: u16,
    body: Vec<u8>,
    headers: AnswerFields,
}

impl Plugin for ApiBreaker {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_access(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let host = x.var(&Var::Host).unwrap_or_default();
        if !self.shared.breaker_is_open(&self.path(x, &host), x.now_millis(), &self.rule) {
            return Verdict::Next;
        }
        let headers = self.headers.render(x);
        Verdict::Answer(Answer { status: self.status, headers, body: self.body.clone() })
    }

    fn on_response(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let Some(status) = x.upstream_status() else { return Verdict::Next };
        let unhealthy = self.unhealthy.contains(&status);
        // An answer that breaks off is followed by one of the gateway's: the first of the two counts.
        if (unhealthy || self.healthy.contains(&status)) && x.slot().replace(Box::new(())).is_none() {
            let host = x.var(&Var::Host).unwrap_or_default();
            self.shared.breaker_counts(&self.path(x, &host), x.now_millis(), &self.rule, !unhealthy);
        }
        Verdict::Next
    }
}

impl ApiBreaker {
    fn path<'a>(&self, x: &'a dyn Exchange, host: &'a [u8]) -> BreakerPath<'a> {
        BreakerPath { owner: self.owner, host, uri: x.uri() }
    }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        reader.require("break_response_code");
        let status = reader.range("break_response_code", 200..=599);
        let body = reader.opt_str("break_response_body").unwrap_or_default();
        let headers = AnswerFields::read_list(reader, "break_response_headers");
        let open_max_seconds = reader.range("max_breaker_sec", 3..=i64::MAX).unwrap_or(300);
        let unhealthy = settings::table(reader, "unhealthy", |table| Some(read_unhealthy(table)));
        let healthy = settings::table(reader, "healthy", |table| Some(read_healthy(table)));
        let (unhealthy, failures) = unhealthy.unwrap_or_else(|| (vec![UNHEALTHY], COUNT));
        let (healthy, successes) = healthy.unwrap_or_else(|| (vec![HEALTHY], COUNT));
        let open_max_millis = open_max_seconds.unsigned_abs().saturating_mul(1000);
        Some(ApiBreaker {
            shared: setup.shared.clone(),
            owner: setup.shared.owner(setup.owner, &setup.entry.value, 0),
            rule: BreakerRule { failures, successes, open_max_millis },
            unhealthy,
            healthy,
            status: status? as u16,
            body: body.as_bytes().to_vec(),
            headers,
        })
    })
}

fn read_unhealthy(reader: &mut Reader<'_, '_>) -> (Vec<u16>, u64) {
    let statuses = settings::statuses(reader, "http_statuses", 500..=599, UNHEALTHY);
    (statuses, reader.range("failures", 1..=i64::MAX).map_or(COUNT, i64::unsigned_abs))
}

fn read_healthy(reader: &mut Reader<'_, '_>) -> (Vec<u16>, u64) {
    let statuses = settings::statuses(reader, "http_statuses", 200..=499, HEALTHY);
    (statuses, reader.range("successes", 1..=i64::MAX).map_or(COUNT, i64::unsigned_abs))
}

fn schema() -> serde_json::Value {
    let outcome = |least: u16, most: u16, default: u16, count: &str| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "http_statuses": {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": true,
                    "items": { "type": "integer", "minimum": least, "maximum": most },
                    "default": [default]
                },
                count: { "type": "integer", "minimum": 1, "default": COUNT }
            }
        })
    };
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["break_response_code"],
        "properties": {
            "break_response_code": { "type": "integer", "minimum": 200, "maximum": 599 },
            "break_response_body": { "type": "string" },
            "break_response_headers": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["key", "value"],
                    "properties": {
                        "key": { "type": "string", "minLength": 1 },
                        "value": { "type": "string", "minLength": 1 }
                    }
                }
            },
            "max_breaker_sec": { "type": "integer", "minimum": 3, "default": 300 },
            "unhealthy": outcome(500, 599, UNHEALTHY, "failures"),
            "healthy": outcome(200, 499, HEALTHY, "successes")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, build_in, verdict_text, with, FakeExchange};

    /// One request to the plugin at a second, whose upstream answers `status` if it is asked.
    fn serve(plugin: &dyn Plugin, second: f64, request: &str, status: Option<u16>) -> String {
        let mut x = FakeExchange::new(request);
        x.now_millis = (second * 1000.0) as u64;
        let verdict = plugin.on_access(&mut x, Resume::Start);
        let (passed, sent) = match &verdict {
            Verdict::Answer(answer) => (false, answer.status),
            _ => (true, status.unwrap_or(404)),
        };
        x.upstream_status = status.filter(|_| passed);
        // A second time changes nothing: it is the same exchange.
        for _ in 0..2 {
            assert_eq!(verdict_text(&plugin.on_response(&mut x, Resume::Start)), "Next");
        }
        if passed {
            sent.to_string()
        } else {
            verdict_text(&verdict)
        }
    }

    /// Requests, one a line: `<second> <status of the upstream> <what the client sees>`.
    #[track_caller]
    fn check(settings: serde_json::Value, script: &str) {
        let plugin = build("api-breaker", settings).expect("settings hold");
        for line in script.lines().map(str::trim_start) {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().expect("second status answer");
            let (second, status, want) = (word().parse().expect("seconds"), word(), word());
            let seen = serve(&*plugin, second, "GET /api?code=1 | Host: h", status.parse().ok());
            assert_eq!(seen, want, "{line}");
        }
    }

    /// The sequences of APISIX's own tests (t/plugin/api-breaker.t, 10 to 19).
    #[test]
    fn as_in_apisix() {
        let wide = json!({
            "break_response_code": 599,
            "unhealthy": {"http_statuses": [500, 503], "failures": 3},
            "healthy": {"http_statuses": [200, 206], "successes": 3}
        });
        check(wide.clone(), "0 200 200\n0 500 500\n0 503 503\n0 500 500\n0 500 599\n0 500 599");
        check(wide.clone(), "0 500 500\n0 500 500\n0 200 200\n0 206 206\n0 200 200\n0 500 500\n0 500 500");
        check(wide, "0 500 500\n0 200 200\n0 500 500\n0 500 500\n0 500 599\n0 500 599");
        let plain = json!({"break_response_code": 599});
        check(plain.clone(), "0 200 200\n0 500 500\n0 503 503\n0 500 500\n0 500 500\n0 500 599");
        let trip = "0 500 500\n0 500 500\n0 500 500\n0 200 599\n";
        check(plain.clone(), &format!("{trip}3 200 200\n3 200 200\n3 200 200\n3 500 500"));
        check(plain, &format!("{trip}3 500 500\n3 500 599\n3 500 599\n3.9 500 599\n4 500 500"));
        let quick = json!({"break_response_code": 599, "max_breaker_sec": 10, "unhealthy": {"failures": 1}});
        let plugin = build("api-breaker", quick).expect("settings hold");
        let seen: Vec<_> = (0..20).map(|second| serve(&*plugin, second.into(), "GET /", Some(500))).collect();
        assert_eq!(seen.iter().filter(|answer| *answer == "500").count(), 4, "{seen:?}");
    }

    #[test]
    fn only_an_upstream_that_was_asked_counts() {
        let one = json!({"break_response_code": 599, "unhealthy": {"failures": 1}});
        check(one.clone(), "0 none 404\n0 none 404\n0 404 404\n0 502 502\n0 500 500\n0 none 599");
        check(one, "0 500 500\n2 404 404\n2 none 404\n2 301 301\n2 200 200\n2 500 500\n2 200 599");
    }

    #[test]
    fn answers_with_fields_and_body() {
        let mut settings = json!({
            "break_response_code": 503,
            "break_response_headers": [
                {"key": "X-Client", "value": "$remote_addr:$arg_code"},
                {"key": "X-Client", "value": "again"}
            ],
            "unhealthy": {"failures": 1}
        });
        let fields = "503 | X-Client: 192.0.2.7:1 | X-Client: again";
        check(settings.clone(), &format!("0 500 500\n0 500 {fields}"));
        settings["break_response_body"] = json!("resting");
        check(settings, &format!("0 500 500\n0 500 {fields} || resting"));
    }

    #[test]
    fn each_owner_host_and_path_has_a_breaker_that_survives_a_reload() {
        let shared = SharedState::new();
        let settings = json!({"break_response_code": 599, "unhealthy": {"failures": 1}});
        let serve = |owner, settings: &serde_json::Value, request| {
            let plugin = build_in(&shared, owner, "api-breaker", settings.clone()).expect("settings hold");
            serve(&*plugin, 0.0, request, Some(500))
        };
        assert_eq!(serve("route:a", &settings, "GET /x?a | Host: h"), "500");
        assert_eq!(serve("route:a", &settings, "GET /x?b | Host: h"), "599");
        assert_eq!(serve("route:a", &settings, "GET /x | Host: i"), "500");
        assert_eq!(serve("route:a", &settings, "GET /y | Host: h"), "500");
        assert_eq!(serve("route:b", &settings, "GET /x | Host: h"), "500");
        let changed = json!({"break_response_code": 598, "unhealthy": {"failures": 1}});
        assert_eq!(serve("route:a", &changed, "GET /x | Host: h"), "500");
        assert_eq!(serve("route:a", &settings, "GET /x | Host: h"), "599");
    }

    #[test]
    fn failures_are_counted_over_all_threads() {
        let plugin =
            build("api-breaker", json!({"break_response_code": 599, "unhealthy": {"failures": 800}}))
                .expect("settings hold");
        let fail =
            |count: usize| (0..count).filter(|_| serve(&*plugin, 0.0, "GET /", Some(500)) == "500").count();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..7).map(|_| scope.spawn(|| fail(100))).collect();
            let passed: usize = threads.into_iter().map(|thread| thread.join().expect("it serves")).sum();
            assert_eq!(passed, 700);
        });
        assert_eq!(fail(101), 100);
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(fields: serde_json::Value, want: &str) {
            let settings = with(json!({"break_response_code": 503}), fields);
            let problems = build("api-breaker", settings).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        assert_eq!(
            build("api-breaker", json!({})).err().unwrap_or_default(),
            "`break_response_code` is missing"
        );
        check(json!({"break_response_code": 199}), "`break_response_code` is out of range: 199");
        check(json!({"break_response_code": 600}), "`break_response_code` is out of range: 600");
        check(json!({"max_breaker_sec": 2}), "`max_breaker_sec` is out of range: 2");
        check(
            json!({"unhealthy": {"http_statuses": [500, 603]}}),
            "`http_statuses` are statuses from 500 to 599",
        );
        check(json!({"healthy": {"http_statuses": [500]}}), "`http_statuses` are statuses from 200 to 499");
        check(json!({"healthy": {"http_statuses": [206, 206]}}), "206 is there twice (remove one)");
        check(json!({"healthy": {"http_statuses": []}}), "`http_statuses` is empty");
        check(json!({"healthy": {"http_statuses": ["200"]}}), "`http_statuses` are statuses");
        check(json!({"unhealthy": {"failures": 0}}), "`failures` is out of range: 0");
        check(json!({"healthy": {"successes": 0}}), "`successes` is out of range: 0");
        check(json!({"healthy": {"failures": 1}}), "unknown field `failures`");
        check(json!({"break_response_headers": [{"key": "A"}]}), "`value` is missing");
        check(json!({"break_response_headers": [{"key": "A B", "value": "1"}]}), "`A B` is no field name");
        check(json!({"break_response_headers": {"A": "1"}}), "expected an array");
    }
}
