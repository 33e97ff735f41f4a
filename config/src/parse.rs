//! The tree to a document: each resource is read by its own file, in the order of references.
//!
//! Upstreams come before services and both before routes, so that a reference is
//! checked, and a text told to be a name or an address, where it is read.

use std::collections::HashSet;
use std::sync::Arc;

use crate::check;
use crate::cores::Cores;
use crate::document::Document;
use crate::env::Env;
use crate::identity::{Identity, Ids};
use crate::listener::{self, Listener};
use crate::log::{Control, Dns, Log, Status};
use crate::names::Digester;
use crate::place::Place;
use crate::plugin;
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::route::{self, Known};
use crate::server::{self, RouterMode, Server};
use crate::service;
use crate::ssl;
use crate::upstream;
use crate::value::Value;
use crate::Also;

/// What the language has and this version has not.
const NOT_BUILT: &[&str] = &[
    "admin",
    "consumers",
    "consumer_groups",
    "credentials",
    "caches",
    "secrets",
    "stream_routes",
    "plugin_metadata",
    "protos",
    "ai",
];

/// Checks a whole tree. `None` when any problem is an error.
pub(crate) fn document(tree: &Value, env: &dyn Env, also: Also<'_>, report: &mut Report) -> Option<Document> {
    let mut reader = Reader::of("Document", tree, report);
    // Taken out by `load`, and known here so that a slip of the pen finds it.
    reader.entry("include");
    let server_value = reader.opt_value("server");
    let server = server_value.map(|value| server::read(value, env, reader.report()));
    let server =
        server.unwrap_or_else(|| Server { workdir: server::workdir_default(env), ..Server::default() });
    let log = reader.opt_value("log").map(|value| Log::read(value, reader.report()));
    let status = reader.opt_value("status").map(|value| Status::read(value, reader.report()));
    let control = reader.opt_value("control").map(|value| Control::read(value, reader.report()));
    let dns = reader.opt_value("discovery").map(|value| Dns::read(value, reader.report()));
    let cores = reader.opt_value("cores").map(|value| Cores::read(value, reader.report()));
    let mut document = Document {
        log: log.unwrap_or_default(),
        status: status.unwrap_or_default(),
        control: control.unwrap_or_default(),
        dns: dns.unwrap_or_default(),
        cores: cores.unwrap_or_default(),
        ..Document::default()
    };
    listeners(&mut document, server_value, &mut reader);
    ssls(&mut document, &mut reader);
    resources(&mut document, server.router, &mut reader);
    document.server = server;
    reader.not_built(NOT_BUILT);
    reader.finish();
    check::yield_control(&mut document, report);
    check::document(&document, tree, report);
    if report.has_errors() {
        // What seems to be missing in a plugin may stand where the syntax is broken.
        if !report.syntax_is_broken {
            plugins_of_broken(tree, &mut document);
            also(&document, report);
        }
    }
    report.sort();
    if report.has_errors() {
        return None;
    }
    let mut digest = Digester::default();
    digest.value(tree);
    document.digest = digest.finish();
    document.sources = report.sources().clone();
    Some(document)
}

/// Keeps the plugins of resources that are wrong elsewhere, as plugin configs without an id.
fn plugins_of_broken(tree: &Value, document: &mut Document) {
    let mut sound = HashSet::new();
    sound.extend(document.routes.iter().map(|route| route.place.order()));
    sound.extend(document.services.iter().map(|service| service.place.order()));
    sound.extend(document.plugin_configs.iter().map(|config| config.place.order()));
    sound.extend(document.global_rules.iter().map(|rule| rule.place.order()));
    for name in ["routes", "services", "plugin_configs", "global_rules"] {
        let values = tree.get(name).and_then(Value::as_array).unwrap_or_default();
        for value in values.iter().filter(|value| !sound.contains(&value.place.order())) {
            // What is wrong with it was said when it was read the first time.
            let mut said = Report::new();
            let mut reader = Reader::new(value, &mut said);
            let plugins = plugin::read(&mut reader);
            let config = plugin::PluginConfig { id: String::new(), plugins, place: value.place };
            document.plugin_configs.push(Arc::new(config));
        }
    }
}

fn listeners(document: &mut Document, server: Option<&Value>, reader: &mut Reader<'_, '_>) {
    let mut list = server.map(|server| listener::of_server(server, reader.report())).unwrap_or_default();
    for value in tables(reader, "listeners") {
        list.extend(Listener::read(value, reader.report()));
    }
    document.listeners = list.into_iter().map(Arc::new).collect();
}

fn ssls(document: &mut Document, reader: &mut Reader<'_, '_>) {
    let mut ids = Ids::default();
    for value in tables(reader, "ssls") {
        let Some((ssl, who)) = ssl::read(value, reader.report()) else {
            broken("certificate", value, &mut ids, reader.report());
            continue;
        };
        if who.id.is_some() {
            ids.add("certificate", &ssl.id, &who.name, who.place, reader.report());
        }
        document.ssls.push(Arc::new(ssl));
    }
}

fn resources(document: &mut Document, router: RouterMode, reader: &mut Reader<'_, '_>) {
    let mut known = Known { router, ..Known::default() };
    for value in tables(reader, "upstreams") {
        let read = upstream::read(value, reader.report());
        named("upstream", value, read.as_ref().map(|(_, who)| who), &mut known.upstreams, reader.report());
        document.upstreams.extend(read.map(|(upstream, _)| Arc::new(upstream)));
    }
    for value in tables(reader, "services") {
        let read = service::read(value, &known, reader.report());
        named("service", value, read.as_ref().map(|(_, who)| who), &mut known.services, reader.report());
        document.services.extend(read.map(|(service, _)| Arc::new(service)));
    }
    for value in tables(reader, "plugin_configs") {
        let read = plugin::read_config(value, reader.report());
        let who = read.as_ref().map(|(_, who)| who);
        named("plugin config", value, who, &mut known.plugin_configs, reader.report());
        document.plugin_configs.extend(read.map(|(config, _)| Arc::new(config)));
    }
    routes(document, &known, reader);
    let mut ids = Ids::default();
    for value in tables(reader, "global_rules") {
        let Some((rule, who)) = plugin::read_global(value, reader.report()) else { continue };
        ids.add("global rule", &rule.id, &who.name, who.place, reader.report());
        document.global_rules.push(Arc::new(rule));
    }
}

fn routes(document: &mut Document, known: &Known, reader: &mut Reader<'_, '_>) {
    let values = tables(reader, "routes");
    let mut ids = Ids::default();
    document.routes.reserve(values.len());
    let mut nameless = Vec::new();
    for value in values {
        let Some((route, who)) = route::read(value, known, reader.report()) else {
            broken("route", value, &mut ids, reader.report());
            continue;
        };
        match who.id {
            Some(_) => ids.add("route", &route.id, &who.name, who.place, reader.report()),
            None => nameless.push(document.routes.len()),
        }
        document.routes.push(Arc::new(route));
    }
    // After the named ones, so that a generated id never takes a written one. Routes
    // that match the same are told apart by their order.
    let mut counts = std::collections::HashMap::new();
    for index in nameless {
        let route = &mut document.routes[index];
        let count: &mut usize = counts.entry(route.id.clone()).or_insert(0);
        let mut id = route.id.clone();
        while ids.has(&id) {
            *count += 1;
            id = format!("{}-{}", route.id, *count + 1);
        }
        ids.add("route", &id, "", route.place, reader.report());
        if id != route.id {
            rename(Arc::make_mut(route), id);
        }
    }
}

/// Gives a route another id, and its own upstream with it.
fn rename(route: &mut route::Route, id: String) {
    if let Some(route::UpstreamRef::Inline(upstream)) = &mut route.upstream {
        Arc::make_mut(upstream).id = format!("route:{id}");
    }
    route.id = id;
}

/// Takes the id of a resource that others refer to. It is known even where the rest
/// of it is wrong: a reference to it is then no second problem.
fn named(kind: &str, value: &Value, who: Option<&Identity>, ids: &mut Ids, report: &mut Report) {
    match who {
        Some(Identity { id: Some(id), name, place, .. }) => ids.add(kind, id, name, *place, report),
        Some(_) => report.push(
            Problem::error(value, format!("the {kind} has no name"))
                .label("nothing can refer to it")
                .help("write name = \"...\""),
        ),
        None => broken(kind, value, ids, report),
    }
}

/// Takes the id of a resource that is wrong elsewhere.
fn broken(kind: &str, value: &Value, ids: &mut Ids, report: &mut Report) {
    let Some(found) = value.get("id").or_else(|| value.get("name")) else { return };
    let number = || found.as_i64().map(|number| number.to_string());
    if let Some(id) = found.as_str().map(str::to_owned).or_else(number) {
        ids.add(kind, &id, "", found.place, report);
    }
}

/// The tables of `[[name]]`.
fn tables<'v>(reader: &mut Reader<'v, '_>, name: &'static str) -> &'v [Value] {
    let Some(value) = reader.opt_value(name) else { return &[] };
    if let Some(items) = value.as_array() {
        return items;
    }
    let help = format!("write [[{name}]] with two brackets");
    wrong_type(reader.report(), value, "an array of tables", &help);
    &[]
}

/// A place at the very start, for what is missing in the document as a whole.
pub(crate) fn beginning() -> Place {
    Place::new(0, 0..0)
}
