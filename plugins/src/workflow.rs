//! `workflow`: the first rule that matches a request says what is done with it.
//!
//! An action is `return` or one of the limiting plugins, of which `limit-count` is
//! built; it is that plugin's own code with counters that belong to the rule. As in
//! APISIX, only the first action of a rule acts (the rest are checked, and warned
//! of), and no rule behind the one that matched is looked at, also where its action
//! lets the request pass.

use std::sync::Arc;

use config::expr::Expr;
use config::{Place, Reader, Report, Value};
use serde_json::json;

use crate::limit_count::{self, LimitCount};
use crate::{settings, Answer, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

/// Rules of one plugin: each may be looked at for every request.
const RULES_MAX: usize = 64;
/// Actions of one rule.
const ACTIONS_MAX: usize = 8;
/// Actions of APISIX that come with their plugins.
const PLANNED: &[&str] = &["limit-conn", "limit-req"];

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "workflow",
    priority: 1006,
    phases: Phases::ACCESS,
    schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[[routes.plugins.workflow.rules]]
case = [["uri", "==", "/internal"]]
actions = [["return", { code = 403 }]]

[[routes.plugins.workflow.rules]]
case = [["http_x_plan", "==", "free"]]
actions = [["limit-count", { count = 10, time_window = 60, rejected_code = 429 }]]
"#,
    build,
};

struct Workflow {
    rules: Vec<Rule>,
}

struct Rule {
    /// `None` is every request.
    case: Option<Expr>,
    action: Action,
}

/// What is done with a request.
enum Action {
    /// `return`
    Return(Answer),
    /// `limit-count`
    Limit(LimitCount),
}

impl Plugin for Workflow {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        INFO.phases
    }

    fn on_access(&self, x: &mut dyn Exchange, resume: Resume) -> Verdict {
        let matches = |rule: &&Rule| rule.case.as_ref().is_none_or(|case| case.eval(x.vars()));
        match self.rules.iter().find(matches).map(|rule| &rule.action) {
            Some(Action::Return(answer)) => Verdict::Answer(answer.clone()),
            Some(Action::Limit(limit)) => limit.on_access(x, resume),
            None => Verdict::Next,
        }
    }
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        reader.require("rules");
        let rules = settings::tables(reader, "rules", 1..=RULES_MAX, |index, rule| {
            read_rule(rule, &format!("{}:{}:{index}", setup.owner, INFO.name), setup)
        });
        Some(Workflow { rules: rules? })
    })
}

/// Reads a rule; `owner` is whose counters its actions' are.
fn read_rule(reader: &mut Reader<'_, '_>, owner: &str, setup: &Setup<'_>) -> Option<Rule> {
    let case_written = reader.has("case");
    if reader.opt_value("case").and_then(Value::as_array).is_some_and(<[_]>::is_empty) {
        settings::problem(reader, "case", "`case` is empty", "leave it out to match every request");
    }
    let case = settings::condition(reader, "case");
    reader.require("actions");
    let actions = reader.opt_array("actions")?;
    if actions.is_empty() || actions.len() > ACTIONS_MAX {
        let what = format!("`actions` has 1 to {ACTIONS_MAX} actions");
        settings::problem(reader, "actions", &what, "write actions = [[\"return\", { code = 403 }]]");
        return None;
    }
    if let Some(second) = actions.get(1) {
        let what = "only the first action of a rule acts";
        reader.report().warning(second, what, "write a rule for each");
    }
    let read = |(index, action): (usize, &Value)| {
        read_action(action, &format!("{owner}.{index}"), setup, reader.report())
    };
    let mut actions: Vec<_> = actions.iter().enumerate().map(read).collect();
    // A case that did not compile was reported: the rule must not match everything meanwhile.
    let action = actions.swap_remove(0)?;
    (case.is_some() || !case_written).then_some(Rule { case, action })
}

/// Reads `[name, settings]`.
fn read_action(action: &Value, owner: &str, setup: &Setup<'_>, report: &mut Report) -> Option<Action> {
    let help = "write [\"return\", { code = 403 }]";
    let (name, value) = match action.as_array() {
        Some([name, value]) => (name, value),
        _ => {
            report.error(action, "an action is a name and its settings", help);
            return None;
        }
    };
    match name.as_str() {
        Some("return") => settings::table_of(report, value, read_return),
        Some("limit-count") => limit_count::nested(value, owner, setup.shared, report).map(Action::Limit),
        Some(planned) if PLANNED.contains(&planned) => {
            let help = "write `return` or `limit-count`";
            settings::not_built(report, name.place, &format!("the action `{planned}`"), help);
            None
        }
        Some(unknown) => {
            let known = ["return", "limit-count"].map(|name| (name, Place::NOWHERE));
            let near = report.suggest(unknown, known.into_iter());
            let help = if near.is_empty() { "write `return` or `limit-count`".to_owned() } else { near };
            report.error(name, format!("unknown action `{unknown}`"), help);
            None
        }
        None => {
            report.error(name, "an action is a name and its settings", help);
            None
        }
    }
}

fn read_return(reader: &mut Reader<'_, '_>) -> Option<Action> {
    reader.require("code");
    let status = reader.range("code", 200..=599)?;
    Some(Action::Return(Answer::error_message(status as u16, "rejected by workflow")))
}

fn schema() -> serde_json::Value {
    let action = |name: &str, settings: serde_json::Value| json!({ "type": "array", "prefixItems": [{ "const": name }, settings], "minItems": 2, "maxItems": 2 });
    let code = json!({ "type": "integer", "minimum": 200, "maximum": 599 });
    let returns = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["code"],
        "properties": { "code": code }
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["rules"],
        "properties": {
            "rules": {
                "type": "array",
                "minItems": 1,
                "maxItems": RULES_MAX,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["actions"],
                    "properties": {
                        "case": {
                            "type": "array",
                            "minItems": 1,
                            "items": { "type": ["array", "string"] }
                        },
                        "actions": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": ACTIONS_MAX,
                            "items": { "anyOf": [
                                action("return", returns),
                                action("limit-count", (limit_count::INFO.schema)())
                            ] }
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{build, build_in, verdict_text, FakeExchange};
    use crate::SharedState;

    const REJECTED: &str = " | Content-Type: application/json || {\"error_msg\":\"rejected by workflow\"}";

    /// Requests, one a line, with what they are told: `<request> -> <verdict and fields>`.
    /// `rejected` stands for the body of `return`.
    #[track_caller]
    fn check(rules: serde_json::Value, script: &str) {
        let plugin = build("workflow", json!({"rules": rules})).expect("settings hold");
        for line in script.lines().map(str::trim_start) {
            let (request, want) = line.split_once(" -> ").expect("request -> answer");
            let mut x = FakeExchange::new(request);
            let verdict = x.ask(&*plugin);
            let seen = format!("{}{}", verdict_text(&verdict).trim_end(), x.added_text());
            assert_eq!(seen, want.replace(" rejected", REJECTED), "{line}");
        }
    }

    fn limit(count: u32) -> serde_json::Value {
        json!(["limit-count", {"count": count, "time_window": 60, "show_limit_quota_header": false}])
    }

    #[test]
    fn the_first_rule_that_matches_acts() {
        let rules = json!([
            {"case": [["uri", "==", "/a"], ["arg_x", "==", "1"]], "actions": [["return", {"code": 403}]]},
            {"case": ["OR", ["uri", "==", "/a"], ["uri", "==", "/b"]], "actions": [["return", {"code": 404}]]},
            {"case": [["uri", "==", "/free"]], "actions": [limit(2)]},
            {"case": [["uri", "~~", "^/free|^/c"]], "actions": [["return", {"code": 200}]]}
        ]);
        check(
            rules,
            "GET /a?x=1 -> 403 rejected
             GET /a -> 404 rejected
             GET /b?x=1 -> 404 rejected
             GET /c -> 200 rejected
             GET /free -> Next
             GET /free -> Next
             GET /free -> 503
             GET /other -> Next",
        );
        check(json!([{"actions": [["return", {"code": 410}]]}]), "GET / -> 410 rejected");
        // A second action is checked and does not act.
        check(json!([{"actions": [["return", {"code": 410}], limit(1)]}]), "GET / -> 410 rejected");
    }

    #[test]
    fn limits_behave_as_their_plugin() {
        let settings =
            json!({"count": 1, "time_window": 60, "rejected_code": 429, "rejected_msg": "slow down"});
        let fields = |remaining| {
            format!("X-RateLimit-Limit: 1 | X-RateLimit-Remaining: {remaining} | X-RateLimit-Reset: 60")
        };
        let script = format!(
            "GET / -> Next | {}
             GET / -> 429 | Content-Type: application/json || {{\"error_msg\":\"slow down\"}} | {}",
            fields(0),
            fields(0)
        );
        check(json!([{"actions": [["limit-count", settings]]}]), &script);
    }

    #[test]
    fn each_rule_has_counters_of_its_own_that_survive_a_reload() {
        let shared = SharedState::new();
        let rule = |uri: &str| json!({"case": [["uri", "==", uri]], "actions": [limit(1)]});
        let passes = |owner, rules: serde_json::Value, request| {
            let plugin =
                build_in(&shared, owner, "workflow", json!({"rules": rules})).expect("settings hold");
            matches!(FakeExchange::new(request).ask(&*plugin), Verdict::Next)
        };
        let rules = json!([rule("/a"), rule("/b")]);
        assert!(passes("route:a", rules.clone(), "GET /a"));
        assert!(!passes("route:a", rules.clone(), "GET /a"));
        assert!(passes("route:a", rules.clone(), "GET /b"));
        assert!(!passes("route:a", rules.clone(), "GET /b"));
        assert!(passes("route:b", rules, "GET /a"));
        // The limit-count of the route itself counts apart.
        let settings = limit(1)[1].clone();
        let plugin = build_in(&shared, "route:a", "limit-count", settings).expect("settings hold");
        assert!(matches!(FakeExchange::new("GET /a").ask(&*plugin), Verdict::Next));
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(rule: serde_json::Value, want: &str) {
            let problems = build("workflow", json!({"rules": [rule]})).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        let action = |action: serde_json::Value| json!({"actions": [action]});
        let settings = json!({"count": 1, "time_window": 1, "group": "g"});
        assert_eq!(
            build("workflow", json!({})).err().unwrap_or_default(),
            "`rules` is missing (add `rules`)"
        );
        assert_eq!(
            build("workflow", json!({"rules": []})).err().unwrap_or_default(),
            "`rules` has 1 to 64 tables (write rules = [{ ... }], with 1 to 64 tables in it)"
        );
        check(json!({}), "`actions` is missing");
        check(json!({"actions": []}), "`actions` has 1 to 8 actions (write actions = ");
        check(json!({"actions": {}}), "expected an array");
        check(action(json!(["return"])), "an action is a name and its settings (write [\"return\"");
        check(action(json!("return")), "an action is a name and its settings");
        check(action(json!([403, {}])), "an action is a name and its settings");
        check(action(json!(["return", {}])), "`code` is missing");
        check(action(json!(["return", {"code": 99}])), "`code` is out of range: 99");
        check(action(json!(["return", {"code": 403, "body": ""}])), "unknown field `body`");
        check(action(json!(["retrun", {"code": 403}])), "unknown action `retrun` (did you mean `return`?)");
        check(action(json!(["mocking", {}])), "unknown action `mocking` (write `return` or `limit-count`)");
        check(action(json!(["limit-conn", {}])), "the action `limit-conn` is not built yet (write `return`");
        check(action(json!(["limit-req", {}])), "the action `limit-req` is not built yet");
        check(action(json!(["limit-count", {"count": 1}])), "`time_window` is missing");
        check(action(json!(["limit-count", settings])), "a `limit-count` in another plugin is in no group");
        check(action(json!(["limit-count", {"count": 1, "time_window": 1, "x": 1}])), "unknown field `x`");
        let second = json!([["return", {"code": 403}], ["limit-req", {}]]);
        check(
            json!({"actions": second}),
            "only the first action of a rule acts (write a rule for each); the action `limit-req`",
        );
        check(json!({"case": [], "actions": [["return", {"code": 403}]]}), "`case` is empty");
        check(
            json!({"case": [["a", "=", 1]], "actions": [["return", {"code": 403}]]}),
            "unknown operator `=`",
        );
        check(
            json!({"case": "uri", "actions": [["return", {"code": 403}]]}),
            "expected an array of conditions",
        );
    }
}
