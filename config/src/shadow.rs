//! Routes that no request can reach, because another takes all of theirs first.
//!
//! A route is asked per host and path pattern. Among routes of one pattern the
//! higher priority is asked first, then the one written first. So a route is
//! shadowed if for each of its patterns an earlier one asks for no more than it
//! does: no condition at all, no condition but methods that include its own, or the
//! very same conditions. What only cleverer reasoning could find is left alone: a
//! warning must be right.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::document::Document;
use crate::place::Place;
use crate::report::{Problem, Report};
use crate::route::Route;
use crate::server::RouterMode;

/// A route among those of one pattern.
struct Candidate<'a> {
    route: &'a Route,
    hosts: &'a [String],
    /// Its number in the document.
    index: usize,
}

/// Warns of each route that is shadowed.
pub(crate) fn routes(document: &Document, report: &mut Report) {
    let services: HashMap<&str, &[String]> =
        document.services.iter().map(|service| (service.id.as_str(), service.hosts.as_slice())).collect();
    let by_host = document.server.router == RouterMode::HostUri;
    let mut patterns: HashMap<(&str, &str), Vec<Candidate<'_>>> = HashMap::new();
    let mut open = vec![0usize; document.routes.len()];
    for (index, route) in document.routes.iter().enumerate().filter(|(_, route)| route.status == 1) {
        let service = route.service_id.as_deref().and_then(|id| services.get(id)).copied();
        let hosts = if route.hosts.is_empty() { service.unwrap_or_default() } else { &route.hosts };
        for uri in &route.uris {
            let mut add = |host: &'_ str| {
                open[index] += 1;
                // The lifetime is the document's: hosts are borrowed from it.
                let host = hosts.iter().map(String::as_str).find(|it| *it == host).unwrap_or("");
                patterns.entry((host, uri)).or_default().push(Candidate { route, hosts, index });
            };
            match by_host && !hosts.is_empty() {
                true => hosts.iter().for_each(|host| add(host)),
                false => add(""),
            }
        }
    }
    let mut taken: HashMap<usize, (usize, Place)> = HashMap::new();
    for candidates in patterns.values_mut().filter(|candidates| candidates.len() > 1) {
        candidates.sort_by_key(|candidate| (Reverse(candidate.route.priority), candidate.index));
        shadowed(candidates, by_host, |index, by| {
            let entry = taken.entry(index).or_insert((0, by));
            entry.0 += 1;
        });
    }
    let mut found: Vec<_> = taken.into_iter().filter(|(index, (count, _))| *count == open[*index]).collect();
    found.sort_unstable_by_key(|(index, _)| *index);
    for (index, (_, by)) in found {
        let route = &document.routes[index];
        let first = report.sources().line_of(by).unwrap_or_default();
        report.push(
            Problem::warning(route.place, format!("the route `{}` can never be reached", route.id))
                .label(format!("the route of {first} takes all of its requests"))
                .help("give it a higher `priority` or more exact conditions, or remove it"),
        );
    }
}

/// Calls `found(index, by)` for each route that another before it makes unreachable here.
fn shadowed(candidates: &[Candidate<'_>], by_host: bool, mut found: impl FnMut(usize, Place)) {
    // Routes whose only condition is the method (and the host, where that is one), few of
    // which can be different; and every set of conditions seen.
    let mut wide: Vec<&Candidate<'_>> = Vec::new();
    let mut exact: HashMap<String, Place> = HashMap::new();
    let mut wide_seen: HashSet<(&[String], &[String])> = HashSet::new();
    for candidate in candidates {
        let route = candidate.route;
        let conditions = conditions(candidate, by_host);
        let by = wide.iter().find(|wide| covers(wide, candidate, by_host)).map(|wide| wide.route.place);
        if let Some(by) = by.or_else(|| exact.get(&conditions).copied()) {
            found(candidate.index, by);
            continue;
        }
        exact.insert(conditions, route.place);
        let only_methods = route.vars.is_none() && route.remote_addrs.is_empty();
        let hosts = if by_host { &[] } else { candidate.hosts };
        if only_methods && wide.len() < WIDE_MAX && wide_seen.insert((&route.methods, hosts)) {
            wide.push(candidate);
        }
    }
}

/// So many routes of one pattern are compared with every later one.
const WIDE_MAX: usize = 32;

/// Whether `wide`, which has no condition but methods and hosts, takes all that `other` would.
fn covers(wide: &Candidate<'_>, other: &Candidate<'_>, by_host: bool) -> bool {
    let includes = |all: &[String], some: &[String]| {
        all.is_empty() || (!some.is_empty() && some.iter().all(|one| all.contains(one)))
    };
    includes(&wide.route.methods, &other.route.methods) && (by_host || includes(wide.hosts, other.hosts))
}

/// All conditions as one text; equal texts take the same requests.
fn conditions(candidate: &Candidate<'_>, by_host: bool) -> String {
    let route = candidate.route;
    let hosts = if by_host { &[] } else { candidate.hosts };
    format!("{:?} {:?} {:?} {:?}", route.methods, route.remote_addrs, route.vars, hosts)
}
