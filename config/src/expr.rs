//! Conditions over a request: a route's `vars`, a plugin's `_meta.filter`.
//!
//! Elements are `[name, op, value]` or `[name, "!", op, value]`; lists of them are
//! groups, `AND` unless their first element says `OR`, `!AND` or `!OR`. The
//! semantics are APISIX's (lua-resty-expr): an absent variable equals nothing, is
//! less and greater than nothing, and passes every negation.
//!
//! Everything is compiled when the document is read: names, numbers, networks,
//! regexes, sorted lists. Evaluating allocates only where the holder of the request
//! has to make a value.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use regex::bytes::Regex;

use crate::place::Place;
use crate::reader::wrong_type;
use crate::report::{Problem, Report};
use crate::value::{Kind, Value};
use crate::vars::{Var, Vars};

/// Groups may stand inside each other so deep.
pub const DEPTH_MAX: usize = 16;

const OPERATORS: &[&str] = &["==", "~=", ">", ">=", "<", "<=", "~~", "~*", "in", "has", "ipmatch"];

/// A compiled condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    root: Group,
}

/// Several conditions taken together.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    /// True if one is enough.
    any: bool,
    negated: bool,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Group(Group),
    Test { var: Var, negated: bool, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// `==`; `~=` is the same negated.
    Equal(Operand),
    Order(Order, Operand),
    Match(Pattern),
    In(Set),
    Has(Operand),
    Ip(Vec<IpNet>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The right side of `in`; texts are sorted, so that a long list costs a search and not a walk.
#[derive(Clone, Debug, Default, PartialEq)]
struct Set {
    texts: Vec<Vec<u8>>,
    numbers: Vec<f64>,
}

/// The right side of a comparison.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// Compared as a number; a variable that is none is not equal to it.
    Number(f64),
    /// Compared byte by byte.
    Text(Vec<u8>),
}

/// Shared inside a document: 40,000 routes may hold the same one. A clone is its own,
/// because two cores that search with one regex contend for its scratch space.
#[derive(Debug)]
struct Pattern {
    regex: Arc<Regex>,
    ignore_case: bool,
}

impl Clone for Pattern {
    fn clone(&self) -> Pattern {
        Pattern { regex: Arc::new(Regex::clone(&self.regex)), ignore_case: self.ignore_case }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.ignore_case == other.ignore_case && self.regex.as_str() == other.regex.as_str()
    }
}

impl Expr {
    /// Compiles a condition; `None` if there was an error, each of which is in `report`.
    pub fn parse(value: &Value, report: &mut Report) -> Option<Expr> {
        let errors = report.error_count();
        let root = match value.as_array() {
            None => {
                wrong_type(report, value, "an array of conditions", "write [[\"arg_x\", \"==\", \"1\"]]");
                return None;
            }
            // `vars = ["arg_x", "==", "1"]` without the outer brackets.
            Some(items) if items.first().is_some_and(is_name) => {
                Group { any: false, negated: false, terms: term(value, report, 0).into_iter().collect() }
            }
            Some(items) => group(value, items, report, 0)?,
        };
        (report.error_count() == errors).then_some(Expr { root })
    }

    /// Whether it holds for a request.
    pub fn eval(&self, vars: &dyn Vars) -> bool {
        self.root.eval(vars)
    }

    /// The variables that it may look at, in written order, repeated as often as written.
    pub fn vars(&self) -> impl Iterator<Item = &Var> {
        let mut found = Vec::new();
        self.root.collect(&mut found);
        found.into_iter()
    }
}

impl Group {
    fn eval(&self, vars: &dyn Vars) -> bool {
        let holds = if self.any {
            self.terms.iter().any(|term| term.eval(vars))
        } else {
            self.terms.iter().all(|term| term.eval(vars))
        };
        holds != self.negated
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Var>) {
        for term in &self.terms {
            match term {
                Term::Group(group) => group.collect(found),
                Term::Test { var, .. } => found.push(var),
            }
        }
    }
}

impl Term {
    fn eval(&self, vars: &dyn Vars) -> bool {
        match self {
            Term::Group(group) => group.eval(vars),
            Term::Test { var, negated, test } => {
                let holds = vars.var(var).is_some_and(|value| test.eval(&value));
                holds != *negated
            }
        }
    }
}

impl Test {
    fn eval(&self, value: &[u8]) -> bool {
        match self {
            Test::Equal(operand) => operand.equals(value),
            Test::Order(order, operand) => order.holds(operand, value),
            Test::Match(pattern) => pattern.regex.is_match(value),
            Test::In(set) => set.contains(value),
            Test::Has(operand) => {
                value.split(|byte| *byte == b',').any(|item| operand.equals(item.trim_ascii()))
            }
            Test::Ip(networks) => ip(value).is_some_and(|ip| networks.iter().any(|net| net.contains(&ip))),
        }
    }
}

impl Set {
    fn of(operands: Vec<Operand>) -> Set {
        let mut set = Set::default();
        for operand in operands {
            match operand {
                Operand::Number(number) => set.numbers.push(number),
                Operand::Text(text) => set.texts.push(text),
            }
        }
        set.texts.sort_unstable();
        set.texts.dedup();
        set.numbers.sort_unstable_by(f64::total_cmp);
        set.numbers.dedup();
        set
    }

    fn contains(&self, value: &[u8]) -> bool {
        if self.texts.binary_search_by(|text| text.as_slice().cmp(value)).is_ok() {
            return true;
        }
        let found = number(value).filter(|_| !self.numbers.is_empty());
        // -0 and 0 are equal and not the same: the numbers are few, so they are walked.
        found.is_some_and(|number| self.numbers.contains(&number))
    }
}

impl Operand {
    fn equals(&self, value: &[u8]) -> bool {
        match self {
            Operand::Number(expected) => number(value) == Some(*expected),
            Operand::Text(expected) => expected == value,
        }
    }
}

impl Order {
    /// As numbers if both sides are numbers, else byte by byte if the right side is a text.
    fn holds(self, operand: &Operand, value: &[u8]) -> bool {
        let right = match operand {
            Operand::Number(right) => Some(*right),
            Operand::Text(text) => number(text),
        };
        let order = match (number(value), right, operand) {
            (Some(left), Some(right), _) => left.partial_cmp(&right),
            (_, _, Operand::Text(text)) => Some(value.cmp(text)),
            _ => None,
        };
        order.is_some_and(|order| match self {
            Order::Less => order.is_lt(),
            Order::LessOrEqual => order.is_le(),
            Order::Greater => order.is_gt(),
            Order::GreaterOrEqual => order.is_ge(),
        })
    }
}

/// A decimal number; neither infinity nor not-a-number, which `str::parse` would take.
fn number(value: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Reads one network, or one address as a network of its own.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `AND`, `OR`, `!AND`, `!OR` as (any, negated).
fn logic(value: &Value) -> Option<(bool, bool)> {
    match value.as_str()? {
        "AND" => Some((false, false)),
        "OR" => Some((true, false)),
        "!AND" => Some((false, true)),
        "!OR" => Some((true, true)),
        _ => None,
    }
}

fn is_name(value: &Value) -> bool {
    value.as_str().is_some() && logic(value).is_none()
}

fn group(value: &Value, items: &[Value], report: &mut Report, depth: usize) -> Option<Group> {
    if depth >= DEPTH_MAX {
        report.error(
            value,
            format!("conditions are nested more than {DEPTH_MAX} deep"),
            "write it flatter: [\"OR\", condition, condition]",
        );
        return None;
    }
    let (first, rest) = match items.split_first() {
        Some((first, rest)) => (logic(first), rest),
        None => (None, items),
    };
    let (any, negated) = first.unwrap_or((false, false));
    let items = if first.is_some() { rest } else { items };
    if first.is_some() && items.is_empty() {
        report.push(
            Problem::error(value, "an empty group")
                .label("no condition follows")
                .help("add one, such as [\"arg_x\", \"==\", \"1\"]"),
        );
    }
    let terms = items.iter().filter_map(|item| term(item, report, depth + 1)).collect();
    Some(Group { any, negated, terms })
}

fn term(value: &Value, report: &mut Report, depth: usize) -> Option<Term> {
    let Some(items) = value.as_array() else {
        let help = "write [\"arg_x\", \"==\", \"1\"]; a group begins with AND, OR, !AND or !OR";
        wrong_type(report, value, "a condition", help);
        return None;
    };
    match items.first() {
        Some(first) if is_name(first) => test(value, items, report),
        Some(_) => group(value, items, report, depth).map(Term::Group),
        None => {
            report.error(value, "an empty condition", "write [\"arg_x\", \"==\", \"1\"]");
            None
        }
    }
}

fn test(value: &Value, items: &[Value], report: &mut Report) -> Option<Term> {
    let text = |at: usize| items.get(at).and_then(Value::as_str);
    let mut negated = text(1) == Some("!");
    let at = if negated { 2 } else { 1 };
    let shape = (text(0), text(at), items.get(at + 1), items.len() == at + 2);
    let (Some(name), Some(operator), Some(right), true) = shape else {
        report.push(
            Problem::error(value, "a condition has three or four elements")
                .label("must be [name, operator, value] or [name, \"!\", operator, value]")
                .help("write [\"arg_x\", \"==\", \"1\"]"),
        );
        return None;
    };
    if name.is_empty() {
        report.error(
            &items[0],
            "the variable has no name",
            "write one such as arg_x, http_x_y or remote_addr",
        );
        return None;
    }
    let test = match operator {
        "==" => Test::Equal(operand(right, report)?),
        "~=" => {
            negated = !negated;
            Test::Equal(operand(right, report)?)
        }
        "<" => Test::Order(Order::Less, operand(right, report)?),
        "<=" => Test::Order(Order::LessOrEqual, operand(right, report)?),
        ">" => Test::Order(Order::Greater, operand(right, report)?),
        ">=" => Test::Order(Order::GreaterOrEqual, operand(right, report)?),
        "~~" => Test::Match(pattern(right, false, report)?),
        "~*" => Test::Match(pattern(right, true, report)?),
        "in" => Test::In(Set::of(operands(right, report)?)),
        "has" => Test::Has(operand(right, report)?),
        "ipmatch" => Test::Ip(networks(right, report)?),
        unknown => {
            let help = report.suggest(unknown, OPERATORS.iter().map(|name| (*name, Place::NOWHERE)));
            let help = if help.is_empty() { "write [\"arg_x\", \"==\", \"1\"]".to_owned() } else { help };
            report.push(
                Problem::error(&items[at], format!("unknown operator `{unknown}`"))
                    .label(format!("must be one of {}", OPERATORS.join(" ")))
                    .help(help),
            );
            return None;
        }
    };
    Some(Term::Test { var: Var::parse(name), negated, test })
}

fn operand(value: &Value, report: &mut Report) -> Option<Operand> {
    match &value.kind {
        Kind::String(text) => Some(Operand::Text(text.clone().into_bytes())),
        Kind::Bool(flag) => Some(Operand::Text(flag.to_string().into_bytes())),
        Kind::Integer(_) | Kind::Float(_) => value.as_f64().map(Operand::Number),
        _ => {
            wrong_type(report, value, "a string or a number", "");
            None
        }
    }
}

fn operands(value: &Value, report: &mut Report) -> Option<Vec<Operand>> {
    let Some(items) = value.as_array() else {
        wrong_type(report, value, "an array", "write [\"arg_x\", \"in\", [\"1\", \"2\"]]");
        return None;
    };
    items.iter().map(|item| operand(item, report)).collect()
}

fn pattern(value: &Value, ignore_case: bool, report: &mut Report) -> Option<Pattern> {
    let Some(text) = value.as_str() else {
        wrong_type(report, value, "a string", "");
        return None;
    };
    Some(Pattern { regex: report.shared_regex(value.place, text, ignore_case)?, ignore_case })
}

fn networks(value: &Value, report: &mut Report) -> Option<Vec<IpNet>> {
    let items = value.as_array().unwrap_or(std::slice::from_ref(value));
    let mut networks = Vec::with_capacity(items.len());
    for item in items {
        match item.as_str().map(|text| (text, network(text))) {
            Some((_, Some(net))) => networks.push(net),
            Some((text, None)) => report.push(
                Problem::error(item, format!("invalid network `{text}`"))
                    .label("must be an address or a network such as 10.0.0.0/8")
                    .help("write 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32"),
            ),
            None => wrong_type(report, item, "a string", ""),
        }
    }
    (networks.len() == items.len()).then_some(networks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;
    use crate::vars::tests::Pairs;

    fn parse(expr: &str) -> (Option<Expr>, Report) {
        let mut report = Report::new();
        let text = format!("vars = {expr}");
        let file = report.add_source("t", text.clone());
        let tree = load::toml_tree(&text, file, &mut report);
        let value = tree.get("vars").expect("the test's TOML is sound");
        (Expr::parse(value, &mut report), report)
    }

    #[test]
    fn evaluation() {
        #[track_caller]
        fn check(expr: &str, request: &str, expected: bool) {
            let (compiled, report) = parse(expr);
            let compiled = compiled.unwrap_or_else(|| panic!("{expr}: {}", report.render(false)));
            assert_eq!(compiled.eval(&Pairs::parse(request)), expected, "{expr} for {request}");
        }
        // Comparison as text and as numbers.
        check(r#"[["arg_x", "==", "1"]]"#, "arg_x=1", true);
        check(r#"[["arg_x", "==", "1"]]"#, "arg_x=01", false);
        check(r#"[["arg_x", "==", 1]]"#, "arg_x=01", true);
        check(r#"[["arg_x", "==", 1]]"#, "arg_x=one", false);
        check(r#"[["arg_x", "==", 1.5]]"#, "arg_x=1.50", true);
        check(r#"[["arg_x", "==", true]]"#, "arg_x=true", true);
        check(r#"[["arg_x", "==", "1"]]"#, "", false);
        check(r#"[["arg_x", "~=", "1"]]"#, "arg_x=2", true);
        check(r#"[["arg_x", "~=", "1"]]"#, "", true);
        check(r#"[["arg_x", "!", "~=", "1"]]"#, "arg_x=1", true);
        check(r#"["arg_x", "==", "1"]"#, "arg_x=1", true);
        // Order.
        check(r#"[["arg_x", ">", 9]]"#, "arg_x=10", true);
        check(r#"[["arg_x", ">", "9"]]"#, "arg_x=10", true);
        check(r#"[["arg_x", ">", "b"]]"#, "arg_x=c", true);
        check(r#"[["arg_x", ">=", 10]]"#, "arg_x=10", true);
        check(r#"[["arg_x", "<", 10]]"#, "arg_x=10", false);
        check(r#"[["arg_x", "<=", 10]]"#, "arg_x=10", true);
        check(r#"[["arg_x", "<", 10]]"#, "arg_x=x", false);
        check(r#"[["arg_x", "<", 10]]"#, "arg_x=inf", false);
        check(r#"[["arg_x", "<", 10]]"#, "", false);
        check(r#"[["arg_x", "!", "<", 10]]"#, "", true);
        // Regexes.
        check(r#"[["uri", "~~", "^/a/[0-9]+$"]]"#, "uri=/a/12", true);
        check(r#"[["uri", "~~", "^/a/[0-9]+$"]]"#, "uri=/A/12", false);
        check(r#"[["uri", "~*", "^/a/[0-9]+$"]]"#, "uri=/A/12", true);
        check(r#"[["uri", "!", "~~", "b"]]"#, "uri=/a", true);
        // Lists and networks.
        check(r#"[["arg_x", "in", ["a", "b"]]]"#, "arg_x=b", true);
        check(r#"[["arg_x", "in", ["a", 2]]]"#, "arg_x=2.0", true);
        check(r#"[["arg_x", "in", []]]"#, "arg_x=a", false);
        check(r#"[["arg_x", "!", "in", ["a"]]]"#, "arg_x=b", true);
        check(r#"[["http_accept", "has", "b"]]"#, "http_accept=a,+b", true);
        check(r#"[["http_accept", "has", "b"]]"#, "http_accept=ab", false);
        check(r#"[["remote_addr", "ipmatch", ["10.0.0.0/8", "::1"]]]"#, "remote_addr=10.2.3.4", true);
        check(r#"[["remote_addr", "ipmatch", "10.0.0.1"]]"#, "remote_addr=10.0.0.2", false);
        check(r#"[["remote_addr", "!", "ipmatch", ["10.0.0.0/8"]]]"#, "remote_addr=11.0.0.1", true);
        check(r#"[["remote_addr", "ipmatch", ["::/0"]]]"#, "remote_addr=nonsense", false);
        // Groups.
        let (a, b) = (r#"["arg_a", "==", "1"]"#, r#"["arg_b", "==", "1"]"#);
        check(&format!("[{a}, {b}]"), "arg_a=1 arg_b=1", true);
        check(&format!("[{a}, {b}]"), "arg_a=1", false);
        check(&format!(r#"["AND", {a}, {b}]"#), "arg_a=1", false);
        check(&format!(r#"["OR", {a}, {b}]"#), "arg_b=1", true);
        check(&format!(r#"["!OR", {a}, {b}]"#), "arg_b=1", false);
        check(&format!(r#"["!OR", {a}, {b}]"#), "", true);
        check(&format!(r#"["!AND", {a}, {b}]"#), "arg_a=1", true);
        check(&format!(r#"["!AND", {a}, {b}]"#), "arg_a=1 arg_b=1", false);
        check(&format!(r#"["OR", {a}, ["AND", {b}, ["arg_c", "==", "1"]]]"#), "arg_b=1 arg_c=1", true);
        check(&format!(r#"[{a}, ["OR", {b}, ["arg_c", "==", "1"]]]"#), "arg_a=1 arg_c=1", true);
        check(&format!("[[{a}, {b}], {a}]"), "arg_a=1 arg_b=1", true);
        check("[]", "", true);
    }

    #[test]
    fn problems() {
        #[track_caller]
        fn check(expr: &str, expected: &[&str]) {
            let (compiled, report) = parse(expr);
            let found: Vec<String> = report
                .problems()
                .iter()
                .map(|problem| {
                    let place = problem.place.unwrap_or_default();
                    let text = report.sources().get(place).map(|source| &source.text[place.span()]);
                    format!("{} @ {}", problem.what, text.unwrap_or_default())
                })
                .collect();
            assert_eq!(found, expected, "{expr}");
            assert!(compiled.is_none(), "{expr}");
        }
        check(r#"[["arg_x", "=", "1"]]"#, &[r#"unknown operator `=` @ "=""#]);
        check(r#"[["arg_x", "~~", "("]]"#, &[r#"invalid regex `(` @ "(""#]);
        check(r#"[["arg_x", "=="]]"#, &[r#"a condition has three or four elements @ ["arg_x", "=="]"#]);
        check(
            r#"[["arg_x", "!", "=="]]"#,
            &[r#"a condition has three or four elements @ ["arg_x", "!", "=="]"#],
        );
        check(r#"[["arg_x", "in", "a"]]"#, &[r#"expected an array, found a string @ "a""#]);
        check(r#"[["arg_x", "==", ["a"]]]"#, &[r#"expected a string or a number, found an array @ ["a"]"#]);
        check(r#"[["a", "ipmatch", ["1.2.3"]]]"#, &[r#"invalid network `1.2.3` @ "1.2.3""#]);
        check(r#"["OR"]"#, &[r#"an empty group @ ["OR"]"#]);
        check(r#"[[]]"#, &["an empty condition @ []"]);
        check(r#"[["", "==", 1]]"#, &[r#"the variable has no name @ """#]);
        check(r#""arg_x""#, &[r#"expected an array of conditions, found a string @ "arg_x""#]);
        check(
            r#"[["x", "~~", "["], ["x", "~~", "("], 5]"#,
            &[
                r#"invalid regex `[` @ "[""#,
                r#"invalid regex `(` @ "(""#,
                "expected a condition, found an integer @ 5",
            ],
        );
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(parse(&deep).1.has_errors());
    }

    #[test]
    fn equality_and_variables() {
        let one = parse(r#"[["arg_x", "~~", "a"], ["uri", "==", 1]]"#).0;
        let same = parse(r#"[ ["arg_x", "~~", "a"],  ["uri", "==", 1] ]"#).0;
        let other = parse(r#"[["arg_x", "~*", "a"], ["uri", "==", 1]]"#).0;
        assert_eq!(one, same);
        assert_ne!(one, other);
        let vars: Vec<String> = one.iter().flat_map(Expr::vars).map(ToString::to_string).collect();
        assert_eq!(vars, ["arg_x", "uri"]);
    }
}
