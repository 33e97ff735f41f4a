//! `traffic-split`: sends shares of the requests to other upstreams.
//!
//! The first rule that matches decides; its entries take turns by weight, and one
//! without an upstream is the route's own. Turns are exact over all cores of the
//! process, where APISIX's are per worker: weights 3 and 2 give 3 and 2 of any five
//! requests in a row, whichever cores serve them. A canary gets few requests, so
//! shares that only hold in the long run would not be the ones that were written.
//! The turns are laid out when the settings are read (nginx's smooth order), and a
//! request costs one addition to a number that all cores share. Weights whose
//! common turn would be longer than [`TURN_MAX`] are drawn by chance instead.
//!
//! As in APISIX, an upstream that is written here has timeouts of 15 s, not 60, and
//! `match = []` matches; other than there, it does so behind a rule that did not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use config::expr::Expr;
use config::{names, upstream, Kind, Reader, Report, UpstreamRef};
use serde_json::json;

use crate::{chance, settings, Exchange, Phases, Plugin, PluginInfo, Resume, Setup, Verdict};

/// Rules of one plugin: each may be looked at for every request.
const RULES_MAX: usize = 64;
/// Alternatives of one rule.
const MATCHES_MAX: usize = 64;
/// Entries of one rule, as in APISIX's schema.
const ENTRIES_MAX: usize = 20;
/// Requests after which the turn of a rule begins anew: one byte each.
const TURN_MAX: u64 = 4096;
/// As APISIX has it for what is written here: each phase.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);

pub(crate) const INFO: PluginInfo = PluginInfo {
    name: "traffic-split",
    priority: 966,
    phases: Phases::ACCESS,
    schema,
    doc: r#"
[[routes]]
upstream = "127.0.0.1:3000"

[[routes.plugins.traffic-split.rules]]
match = [{ vars = [["http_x_release", "==", "next"]] }]
weighted_upstreams = [{ upstream = { nodes = { "127.0.0.1:3001" = 1 } } }]

[[routes.plugins.traffic-split.rules]]
weighted_upstreams = [
    { upstream = { nodes = { "127.0.0.1:3001" = 1 } }, weight = 1 },
    { weight = 9 },           # the route's own
]
"#,
    build,
};

struct TrafficSplit {
    rules: Vec<Rule>,
    upstreams: Vec<UpstreamRef>,
}

struct Rule {
    /// One has to hold; none at all is every request.
    matches: Vec<Expr>,
    /// The index of each entry's upstream; `None` is the route's own.
    entries: Vec<Option<usize>>,
    shares: Shares,
}

/// Whose request it is.
enum Shares {
    /// Nobody's: all weights are 0.
    None,
    /// In turn: entries, each as often as its weight says.
    Turn { order: Box<[u8]>, next: AtomicUsize },
    /// By chance: the sums of the weights up to and with each entry.
    Chance { sums: Vec<u64>, total: u64 },
}

impl Plugin for TrafficSplit {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn phases(&self) -> Phases {
        if self.rules.is_empty() {
            Phases::NONE
        } else {
            INFO.phases
        }
    }

    fn upstreams(&self) -> &[UpstreamRef] {
        &self.upstreams
    }

    fn on_access(&self, x: &mut dyn Exchange, _resume: Resume) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(x)) else { return Verdict::Next };
        let entry = rule.shares.draw(x);
        match entry.and_then(|entry| rule.entries[entry]) {
            Some(upstream) => Verdict::Upstream(upstream),
            None => Verdict::Next,
        }
    }
}

impl Rule {
    fn matches(&self, x: &dyn Exchange) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|vars| vars.eval(x.vars()))
    }
}

impl Shares {
    /// Shares of these weights; their sum is at most `ENTRIES_MAX` times 2^32.
    fn of(weights: &[u32]) -> Shares {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
        if divisor == 0 {
            return Shares::None;
        }
        let total: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
        if total <= TURN_MAX {
            let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
            return Shares::Turn { order: smooth_order(&weights, total), next: AtomicUsize::new(0) };
        }
        let mut total = 0;
        let sum = |weight: &u32| {
            total += u64::from(*weight);
            total
        };
        let sums = weights.iter().map(sum).collect();
        Shares::Chance { sums, total }
    }

    /// The entry that this request goes to.
    fn draw(&self, x: &mut dyn Exchange) -> Option<usize> {
        match self {
            Shares::None => None,
            // One entry has it all: nothing to count.
            Shares::Turn { order, .. } if order.len() == 1 => Some(usize::from(order[0])),
            Shares::Turn { order, next } => {
                let turn = next.fetch_add(1, Ordering::Relaxed) % order.len();
                Some(usize::from(order[turn]))
            }
            Shares::Chance { sums, total } => {
                let drawn = chance::below(x, *total);
                Some(sums.partition_point(|sum| *sum <= drawn))
            }
        }
    }
}

fn greatest_common_divisor(mut left: u32, mut right: u32) -> u32 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

/// nginx's smooth weighted round robin: each is as evenly spread as its weight allows.
/// `total` is the sum of `weights`, above 0.
fn smooth_order(weights: &[i64], total: u64) -> Box<[u8]> {
    let mut current = vec![0; weights.len()];
    let whole = weights.iter().sum::<i64>();
    let mut turn = || {
        current.iter_mut().zip(weights).for_each(|(current, weight)| *current += weight);
        let highest = (0..weights.len()).rev().max_by_key(|entry| current[*entry]).unwrap_or(0);
        current[highest] -= whole;
        highest as u8
    };
    (0..total).map(|_| turn()).collect()
}

fn build(setup: &Setup<'_>, report: &mut Report) -> Option<Arc<dyn Plugin>> {
    settings::read(setup, report, |reader| {
        let mut upstreams = Vec::new();
        let rules = settings::tables(reader, "rules", 0..=RULES_MAX, |index, rule| {
            read_rule(rule, &format!("{}:traffic-split:{index}", setup.owner), &mut upstreams)
        });
        let rules = rules.unwrap_or_default();
        if rules.is_empty() {
            let place = reader.value_place("rules");
            let what = "`traffic-split` has no rules: every request goes to the route's own upstream";
            reader.report().warning(place, what, "write a rule with `weighted_upstreams`");
        }
        Some(TrafficSplit { rules, upstreams })
    })
}

/// Reads a rule; `owner` is what the ids of upstreams written in it begin with.
fn read_rule(reader: &mut Reader<'_, '_>, owner: &str, upstreams: &mut Vec<UpstreamRef>) -> Option<Rule> {
    let matches = settings::tables(reader, "match", 0..=MATCHES_MAX, |_, entry| {
        entry.require("vars");
        settings::condition(entry, "vars")
    });
    let entries = settings::tables(reader, "weighted_upstreams", 1..=ENTRIES_MAX, |index, entry| {
        read_entry(entry, &format!("{owner}.{index}"), upstreams)
    });
    // Without any, as in APISIX: the route's own.
    let entries = entries.unwrap_or_else(|| vec![(None, 1)]);
    let weights: Vec<u32> = entries.iter().map(|(_, weight)| *weight).collect();
    // Empty where every entry was wrong, which was said.
    if !weights.is_empty() && weights.iter().all(|weight| *weight == 0) {
        let place = reader.value_place("weighted_upstreams");
        let what = "all weights are 0: what matches goes to the route's own upstream";
        reader.report().warning(place, what, "give one a weight above 0");
    }
    let entries = entries.into_iter().map(|(upstream, _)| upstream).collect();
    Some(Rule { matches: matches.unwrap_or_default(), entries, shares: Shares::of(&weights) })
}

/// Reads an entry: the index of its upstream, `None` where it is the route's own, and its weight.
fn read_entry(
    reader: &mut Reader<'_, '_>,
    id: &str,
    upstreams: &mut Vec<UpstreamRef>,
) -> Option<(Option<usize>, u32)> {
    reader.only_one(&["upstream_id", "upstream"]);
    let weight = reader.range("weight", 0..=i64::from(u32::MAX));
    let weight = weight.map_or(1, |weight| weight as u32);
    let by_id = reader.has("upstream_id");
    let referred = read_upstream_id(reader);
    let Some(value) = reader.opt_value("upstream") else {
        if by_id {
            upstreams.push(UpstreamRef::Id(referred?));
        }
        return Some((by_id.then(|| upstreams.len() - 1), weight));
    };
    let mut inline = upstream::inline(value, id, reader.report())?;
    for time in [&mut inline.timeout.connect, &mut inline.timeout.send, &mut inline.timeout.read] {
        time.get_or_insert(TIMEOUT_DEFAULT);
    }
    upstreams.push(UpstreamRef::Inline(Arc::new(inline)));
    Some((Some(upstreams.len() - 1), weight))
}

/// A text or, as APISIX allows, a number. Whether there is such an upstream is checked with the plan.
fn read_upstream_id(reader: &mut Reader<'_, '_>) -> Option<String> {
    let value = reader.opt_value("upstream_id")?;
    let id = match &value.kind {
        Kind::String(id) => id.clone(),
        Kind::Integer(id) => id.to_string(),
        _ => {
            let what = format!("expected an upstream's id, found {}", value.type_name());
            reader.report().error(value, what, "write upstream_id = \"name\"");
            return None;
        }
    };
    if let Some(fault) = names::id_fault(&id) {
        reader.report().error(value, format!("invalid id `{id}`: {fault}"), "write upstream_id = \"name\"");
        return None;
    }
    Some(id)
}

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "rules": {
                "type": "array",
                "maxItems": RULES_MAX,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "match": {
                            "type": "array",
                            "maxItems": MATCHES_MAX,
                            "items": {
                                "type": "object",
                                "additionalProperties": false,
                                "required": ["vars"],
                                "properties": { "vars": { "type": "array" } }
                            }
                        },
                        "weighted_upstreams": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": ENTRIES_MAX,
                            "default": [{ "weight": 1 }],
                            "items": {
                                "type": "object",
                                "additionalProperties": false,
                                "not": { "required": ["upstream_id", "upstream"] },
                                "properties": {
                                    "upstream_id": { "type": ["string", "integer"] },
                                    "upstream": {
                                        "type": "object",
                                        "description": "an upstream as under [[upstreams]], without id"
                                    },
                                    "weight": {
                                        "type": "integer",
                                        "minimum": 0,
                                        "maximum": u32::MAX,
                                        "default": 1
                                    }
                                }
                            }
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
    use crate::fake::{build, FakeExchange};

    /// Where so many requests in a row go: `own` or the upstream, its id or its first node.
    fn targets(plugin: &dyn Plugin, request: &str, count: usize) -> Vec<String> {
        let mut x = FakeExchange::new(request);
        let mut target = || match x.ask(plugin) {
            Verdict::Upstream(index) => match &plugin.upstreams()[index] {
                UpstreamRef::Id(id) => id.clone(),
                UpstreamRef::Inline(upstream) => upstream.nodes[0].address.to_string(),
            },
            Verdict::Next => "own".to_owned(),
            other => panic!("{other:?}"),
        };
        (0..count).map(|_| target()).collect()
    }

    #[track_caller]
    fn check(settings: serde_json::Value, request: &str, want: &str) {
        let plugin = build("traffic-split", settings).expect("settings hold");
        let count = want.split(' ').count();
        assert_eq!(targets(&*plugin, request, count).join(" "), want, "{request}");
    }

    fn entry(id: &str, weight: u32) -> serde_json::Value {
        json!({"upstream_id": id, "weight": weight})
    }

    #[test]
    fn entries_take_turns_by_weight() {
        let rules = |entries: serde_json::Value| json!({"rules": [{"weighted_upstreams": entries}]});
        check(rules(json!([entry("a", 3), entry("b", 2)])), "GET /", "a b a b a a b a b a");
        check(rules(json!([entry("a", 1), {"weight": 2}])), "GET /", "own a own own a own");
        check(rules(json!([entry("a", 5), entry("b", 1), entry("c", 1)])), "GET /", "a a b a c a a");
        check(rules(json!([entry("a", 200), entry("b", 100)])), "GET /", "a b a a b a");
        check(rules(json!([{"upstream_id": 7}, {}])), "GET /", "7 own 7 own");
        check(rules(json!([entry("a", 0), entry("b", 1)])), "GET /", "b b b");
        check(rules(json!([entry("a", 0), entry("b", 0)])), "GET /", "own own");
        check(json!({"rules": [{}]}), "GET /", "own");
        check(json!({"rules": []}), "GET /", "own");
        check(json!({}), "GET /", "own");
        let inline = json!([{"upstream": {"nodes": {"127.0.0.1:1981": 1}}}, {"weight": 1}]);
        check(rules(inline), "GET /", "127.0.0.1:1981 own");
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let settings = json!({"rules": [
            {
                "match": [
                    {"vars": [["arg_name", "==", "jack"], ["http_age", ">", 18]]},
                    {"vars": [["http_x_test", "==", "1"]]}
                ],
                "weighted_upstreams": [entry("a", 1)]
            },
            {"match": [{"vars": [["arg_name", "==", "rose"]]}], "weighted_upstreams": [entry("b", 1), {"weight": 1}]},
            {"match": [{"vars": [["arg_name", "==", "none"]]}]}
        ]});
        check(settings.clone(), "GET /?name=jack | Age: 19", "a a");
        check(settings.clone(), "GET /?name=jack | Age: 18", "own own");
        check(settings.clone(), "GET /?name=rose | X-Test: 1", "a a");
        check(settings.clone(), "GET /?name=rose", "b own b own");
        check(settings.clone(), "GET /?name=none", "own");
        check(settings, "GET /", "own own");
        let behind = json!({"rules": [
            {"match": [{"vars": [["arg_a", "==", "1"]]}], "weighted_upstreams": [entry("a", 1)]},
            {"match": [], "weighted_upstreams": [entry("b", 1)]}
        ]});
        check(behind.clone(), "GET /?a=1", "a");
        check(behind, "GET /", "b");
    }

    #[test]
    fn shares_are_exact_over_all_threads() {
        let entries = json!([entry("a", 3), entry("b", 2)]);
        let plugin = build("traffic-split", json!({"rules": [{"weighted_upstreams": entries}]}))
            .expect("settings hold");
        let serve = || targets(&*plugin, "GET /", 125).iter().filter(|target| *target == "a").count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(serve)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it serves")).sum()
        });
        assert_eq!(total, 600);
    }

    #[test]
    fn long_turns_are_drawn() {
        let entries = json!([entry("a", 3_000_001), entry("b", 1_000_000), entry("c", 0)]);
        let plugin = build("traffic-split", json!({"rules": [{"weighted_upstreams": entries}]}))
            .expect("settings hold");
        let seen = targets(&*plugin, "GET /", 10_000);
        let count = |name| seen.iter().filter(|target| *target == name).count();
        assert!((7_300..7_700).contains(&count("a")), "{}", count("a"));
        assert_eq!((count("a") + count("b"), count("c")), (10_000, 0));
    }

    #[test]
    fn turns_are_bounded_and_as_the_weights_say() {
        #[track_caller]
        fn check(weights: &[u32], turn: Option<usize>) {
            let length = match Shares::of(weights) {
                Shares::Turn { order, .. } => {
                    let count =
                        |entry| order.iter().filter(|turn| usize::from(**turn) == entry).count() as u64;
                    let total: u64 = weights.iter().copied().map(u64::from).sum();
                    for (entry, weight) in weights.iter().enumerate() {
                        assert_eq!(count(entry) * total, u64::from(*weight) * order.len() as u64);
                    }
                    Some(order.len())
                }
                _ => None,
            };
            assert_eq!(length, turn, "{weights:?}");
        }
        check(&[0, 0], None);
        check(&[7], Some(1));
        check(&[0, 7], Some(1));
        check(&[950, 50], Some(20));
        check(&[4095, 1], Some(4096));
        check(&[4096, 1], None);
        check(&[u32::MAX, u32::MAX], Some(2));
        check(&[u32::MAX; 20], Some(20));
        check(&[1; 20], Some(20));
    }

    #[test]
    fn an_upstream_written_here_has_an_id_of_its_own() {
        let node = |port: u32| json!({"upstream": {"nodes": {format!("127.0.0.1:{port}"): 1}}});
        let mut timed = node(3);
        timed["upstream"]["timeout"] = json!({"read": 60});
        let settings = json!({"rules": [
            {"weighted_upstreams": [node(1), {}, node(2)]},
            {"weighted_upstreams": [timed]}
        ]});
        let plugin = build("traffic-split", settings).expect("settings hold");
        let text = |upstream: &UpstreamRef| match upstream {
            UpstreamRef::Id(id) => panic!("{id}"),
            UpstreamRef::Inline(upstream) => {
                let seconds = |time: Option<Duration>| time.map_or(0, |time| time.as_secs());
                let times = (seconds(upstream.timeout.connect), seconds(upstream.timeout.read));
                format!("{} {times:?}", upstream.id)
            }
        };
        let texts: Vec<_> = plugin.upstreams().iter().map(text).collect();
        let want = [
            "route:test:traffic-split:0.0 (15, 15)",
            "route:test:traffic-split:0.2 (15, 15)",
            "route:test:traffic-split:1.0 (15, 60)",
        ];
        assert_eq!(texts, want);
    }

    #[test]
    fn refuses() {
        #[track_caller]
        fn check(rule: serde_json::Value, want: &str) {
            let problems = build("traffic-split", json!({"rules": [rule]})).err().unwrap_or_default();
            assert!(problems.starts_with(want), "{problems}");
        }
        let entry = |entry: serde_json::Value| json!({"weighted_upstreams": [entry]});
        check(json!({"weighted_upstreams": []}), "`weighted_upstreams` has 1 to 20 tables");
        check(json!({"weighted_upstreams": vec![json!({}); 21]}), "`weighted_upstreams` has 1 to 20 tables");
        check(entry(json!({"weight": -1})), "`weight` is out of range: -1");
        check(entry(json!({"weight": 1.5})), "expected an integer");
        check(
            entry(json!({"upstream_id": "a", "upstream": {"nodes": {"h:1": 1}}})),
            "`upstream` beside `upstream_id`",
        );
        check(entry(json!({"upstream_id": true})), "expected an upstream's id, found a boolean");
        check(entry(json!({"upstream_id": "a b"})), "invalid id `a b`");
        check(entry(json!({"upstream": {"nodes": {}}})), "the upstream has no nodes");
        check(
            entry(json!({"upstream": {"id": "x", "nodes": {"h:1": 1}}})),
            "an upstream that is written here has no id",
        );
        check(entry(json!({"upstream": {"nodes": {"h:0": 1}}})), "invalid address `h:0`");
        check(entry(json!({"upstreams": {}})), "unknown field `upstreams`");
        check(json!({"match": [{}]}), "`vars` is missing");
        check(json!({"match": [{"vars": [["a", "?", 1]]}]}), "unknown operator `?`");
        check(json!({"match": {}}), "expected an array");
        let many = json!({"rules": vec![json!({}); 65]});
        let problems = build("traffic-split", many).err().unwrap_or_default();
        assert_eq!(
            problems,
            "`rules` has 0 to 64 tables (write rules = [{ ... }], with 0 to 64 tables in it)"
        );
    }
}
