//! Who a resource is: `id`, `name`, `desc`, `labels`, and that no two are the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::names;
use crate::place::Place;
use crate::reader::{wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::value::Kind;

/// What a resource says of itself.
pub(crate) struct Identity {
    /// `id`, else `name`.
    pub id: Option<String>,
    /// `name`, or an empty text.
    pub name: String,
    /// Where the id or name stands, else the resource.
    pub place: Place,
    /// `labels`
    pub labels: BTreeMap<String, String>,
}

/// Reads `id`, `name`, `desc` and `labels`.
pub(crate) fn read(reader: &mut Reader<'_, '_>) -> Identity {
    let given = id(reader, "id");
    let name = reader.opt_str("name");
    let name_place = reader.value_place("name");
    if name.is_some_and(|name| name.is_empty() || name.len() > names::NAME_BYTES_MAX) {
        reader.report().error(
            name_place,
            "a name has 1 to 256 bytes",
            "write a shorter one, or leave it out if it is empty",
        );
    }
    if reader.opt_str("desc").is_some_and(|desc| desc.len() > names::NAME_BYTES_MAX) {
        let place = reader.value_place("desc");
        reader.report().error(
            place,
            "a description has at most 256 bytes",
            "write a shorter one; a comment may have any length",
        );
    }
    let labels = labels(reader);
    let place = reader.value_place(if reader.has("id") { "id" } else { "name" });
    if let (false, Some(name)) = (reader.has("id"), name.filter(|name| !name.is_empty())) {
        if let Some(fault) = names::id_fault(name) {
            reader.report().push(
                Problem::error(name_place, format!("the name `{name}` cannot be the id"))
                    .label(fault)
                    .help("a name is the id where no id is given: add one, such as id = \"1\""),
            );
        }
    }
    let id = given.or_else(|| name.filter(|_| !reader.has("id")).map(str::to_owned));
    Identity { id, name: name.unwrap_or_default().to_owned(), place, labels }
}

/// Reads an id: a text, or a number as APISIX takes it.
pub(crate) fn id(reader: &mut Reader<'_, '_>, name: &'static str) -> Option<String> {
    let value = reader.opt_value(name)?;
    let id = match &value.kind {
        Kind::Integer(number) if *number >= 0 => number.to_string(),
        Kind::String(text) => text.clone(),
        _ => {
            wrong_type(reader.report(), value, "a string", "");
            return None;
        }
    };
    if let Some(fault) = names::id_fault(&id) {
        reader.report().push(
            Problem::error(value, format!("invalid {} `{id}`", name.replace('_', " ")))
                .label(fault)
                .help("an id has 1 to 64 letters, digits, `-`, `_`, `.`"),
        );
        return None;
    }
    Some(id)
}

fn labels(reader: &mut Reader<'_, '_>) -> BTreeMap<String, String> {
    let Some(value) = reader.opt_value("labels") else { return BTreeMap::new() };
    let Some(entries) = value.as_table() else {
        wrong_type(reader.report(), value, "a table of strings", "write labels = { team = \"web\" }");
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for (key, value) in entries {
        match value.as_str() {
            Some(text) => drop(labels.insert(key.name.clone(), text.to_owned())),
            None => wrong_type(reader.report(), value, "a string", ""),
        }
    }
    labels
}

/// The ids and names of one kind of resource.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    places: HashMap<Arc<str>, Place>,
    /// Names that are not the id, with the id that they belong to.
    names: HashMap<Arc<str>, (Arc<str>, Place)>,
    /// Ids and names as written, to find near ones: of equals the first written.
    order: Vec<(Arc<str>, Place)>,
}

impl Ids {
    /// Takes one in; a second of the same id is an error, of the same name a warning.
    pub(crate) fn add(&mut self, kind: &str, id: &str, name: &str, place: Place, report: &mut Report) {
        if let Some(first) = self.places.get(id) {
            let first = report.sources().line_of(*first).unwrap_or_default();
            report.push(
                Problem::error(place, format!("two {kind}s have the id `{id}`"))
                    .label(format!("the first is {first}"))
                    .help("give one of them another name"),
            );
            return;
        }
        let id: Arc<str> = id.into();
        self.places.insert(id.clone(), place);
        self.order.push((id.clone(), place));
        if name.is_empty() || *name == *id {
            return;
        }
        if let Some((_, first)) = self.names.get(name) {
            let first = report.sources().line_of(*first).unwrap_or_default();
            report.push(
                Problem::warning(place, format!("two {kind}s have the name `{name}`"))
                    .label(format!("the first is {first}")),
            );
            return;
        }
        let name: Arc<str> = name.into();
        self.order.push((name.clone(), place));
        self.names.insert(name, (id, place));
    }

    /// The id that a text means: an id, else a name.
    pub(crate) fn resolve(&self, text: &str) -> Option<&str> {
        match self.places.get_key_value(text) {
            Some((id, _)) => Some(&**id),
            None => self.names.get(text).map(|(id, _)| &**id),
        }
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether an id is taken.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// Reports that a text means none of them, with the name that is near.
    pub(crate) fn unknown(&self, kind: &str, text: &str, place: Place, report: &mut Report) {
        let mut help = report.suggest(text, self.order.iter().map(|(name, place)| (&**name, *place)));
        if help.is_empty() && self.is_empty() {
            help = format!("there is none yet: add [[{}s]] with name = \"{text}\"", kind.replace(' ', "_"));
        }
        if help.is_empty() {
            help = format!(
                "write the name of one of the [[{0}s]], or add this one as [[{0}s]]",
                kind.replace(' ', "_")
            );
        }
        let label = format!("no {kind} has this name");
        report.push(Problem::error(place, format!("unknown {kind} `{text}`")).label(label).help(help));
    }
}

/// Reads a reference to another resource by its id; a name alone is not enough.
pub(crate) fn reference(
    reader: &mut Reader<'_, '_>,
    field: &'static str,
    kind: &str,
    known: &Ids,
) -> Option<String> {
    let id = id(reader, field)?;
    if known.has(&id) {
        return Some(id);
    }
    let place = reader.value_place(field);
    match known.resolve(&id) {
        Some(meant) => {
            let help = format!("write {field} = \"{meant}\"");
            let what = format!("unknown {kind} `{id}`");
            let label = format!("this is the name of a {kind}, not its id").replace("a up", "an up");
            let problem = Problem::error(place, what).label(label);
            reader.report().push(problem.help(help));
        }
        None => known.unknown(kind, &id, place, reader.report()),
    }
    None
}
