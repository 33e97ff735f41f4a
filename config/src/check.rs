//! Rules over the whole document: what no resource can see of itself.
//!
//! Each rule takes time in proportion to the document, whatever is in it.

use std::collections::HashMap;

use crate::document::Document;
use crate::listener::{ListenAddress, Listener, LISTENERS_MAX};
use crate::parse::beginning;
use crate::place::Place;
use crate::report::{Problem, Report};
use crate::shadow;
use crate::ssl;
use crate::value::Value;

/// Applies every rule. `tree` is what the document was read from.
pub(crate) fn document(document: &Document, tree: &Value, report: &mut Report) {
    listeners(document, tree, report);
    ssl::check(document, report);
    global_rules(document, report);
    let lacks = tree.get("routes").is_none() && tree.get("global_rules").is_none();
    if lacks && !report.syntax_is_broken {
        let problem = Problem::warning(beginning(), "there are no routes");
        report.push(problem.label("every request is answered 404").help("add [[routes]]"));
    }
    shadow::routes(document, report);
}

fn listeners(document: &Document, tree: &Value, report: &mut Report) {
    let listen = tree.get("server").and_then(|server| server.get("listen"));
    let none = listen.is_none_or(|listen| listen.as_array() == Some(&[]));
    if none && tree.get("listeners").is_none() && !report.syntax_is_broken {
        let problem = Problem::error(beginning(), "there is nothing to listen on");
        report.push(
            problem
                .label("no `listen`, no [[listeners]]")
                .help("write [server] and below it listen = \":8080\""),
        );
    }
    if document.listeners.len() > LISTENERS_MAX {
        let place = document.listeners[LISTENERS_MAX].place;
        report.error(place, format!("more than {LISTENERS_MAX} listeners"), "remove some");
        return;
    }
    let mut seen: Vec<&Listener> = Vec::new();
    for listener in &document.listeners {
        let same_address = seen.iter().find(|other| other.address.collides(&listener.address));
        let same_name = seen.iter().find(|other| other.name == listener.name);
        let (what, first) = match (same_address, same_name) {
            (Some(first), _) => (format!("two listeners on {}", listener.address), first.place),
            (None, Some(first)) if !matches!(listener.address, ListenAddress::Tcp(it) if it.port() == 0) => {
                (format!("two listeners have the name `{}`", listener.name), first.place)
            }
            _ => {
                seen.push(listener);
                continue;
            }
        };
        twice(listener.place, what, first, report);
    }
    own_listeners(document, tree, &seen, report);
}

/// Nobody wrote `[control]`: then it gives way to what was written, and says so.
pub(crate) fn yield_control(document: &mut Document, report: &mut Report) {
    let Some(address) = document.control.listen.filter(|_| document.control.listen_is_default) else {
        return;
    };
    let taker = document.listeners.iter().find(|listener| listener.address.takes(&address));
    let place = match taker {
        Some(listener) => listener.place,
        None if document.status.listen == Some(address) => Place::NOWHERE,
        None => return,
    };
    document.control.listen = None;
    let what = format!("[control] is off: its default {address} is taken");
    let help = "write [control] and below it listen = \"127.0.0.1:9093\", or \"off\"";
    report.push(Problem::warning(place, what).help(help));
}

/// `[status]` and `[control]` listen beside the listeners.
fn own_listeners(document: &Document, tree: &Value, seen: &[&Listener], report: &mut Report) {
    let own = [("status", document.status.listen, 9092), ("control", document.control.listen, 9093)];
    for (name, address, free) in own {
        let Some(address) = address else { continue };
        if let Some(listener) = seen.iter().find(|listener| listener.address.takes(&address)) {
            let help = format!("write [{name}] and below it listen = \"127.0.0.1:{free}\" or \"off\"");
            let problem = Problem::error(listener.place, format!("{address} is taken by [{name}]"));
            report.push(problem.help(help));
        }
    }
    let (status, control) = (document.status.listen, document.control.listen);
    if let Some(address) = status.filter(|status| status.port() != 0 && Some(*status) == control) {
        let written = ["control", "status"].into_iter().find_map(|name| tree.get(name)?.get("listen"));
        let place = written.map_or(beginning(), |listen| listen.place);
        let problem = Problem::error(place, format!("[status] and [control] are both on {address}"));
        report.push(problem.help("give one of them another port, or write \"off\""));
    }
}

fn twice(place: Place, what: String, first: Place, report: &mut Report) {
    let first = report.sources().line_of(first).unwrap_or_default();
    report.push(Problem::error(place, what).label(format!("the first is {first}")).help("remove one"));
}

/// A plugin stands in one global rule only: two would run in no order that anyone wrote.
fn global_rules(document: &Document, report: &mut Report) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for entry in document.global_rules.iter().flat_map(|rule| &rule.plugins) {
        match seen.get(entry.name.as_str()) {
            Some(first) => {
                twice(
                    entry.place,
                    format!("the plugin `{}` is in two global rules", entry.name),
                    *first,
                    report,
                );
            }
            None => drop(seen.insert(&entry.name, entry.place)),
        }
    }
}
