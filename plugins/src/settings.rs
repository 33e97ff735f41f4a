//! Reading a plugin's settings: what `config::Reader` does not know.
//!
//! Every problem is reported with its place and reading goes on, so that one run
//! shows all of them; an instance is made only where there was none.

use std::sync::Arc;

use config::{Place, Problem, Reader, Report, Value};

use crate::substitute::{Pattern, Replacement};
use crate::{Plugin, Setup};

/// Reads the entry's table by `make`; `None` if anything in it was wrong.
///
/// `make` asks for every field before it returns, also where it returns `None`: a
/// field that nobody asked for is reported as unknown.
pub(crate) fn read<P: Plugin + 'static>(
    setup: &Setup<'_>,
    report: &mut Report,
    make: impl FnOnce(&mut Reader<'_, '_>) -> Option<P>,
) -> Option<Arc<dyn Plugin>> {
    let mut reader = Reader::of(setup.kind, &setup.entry.value, report);
    let plugin = make(&mut reader);
    let holds = reader.finish();
    plugin.filter(|_| holds).map(|plugin| Arc::new(plugin) as Arc<dyn Plugin>)
}

/// Reports an error at the value of a field (at the table if it is not written).
pub(crate) fn problem(reader: &mut Reader<'_, '_>, field: &str, what: &str, help: &str) {
    let place = reader.value_place(field);
    reader.report().error(place, what, help);
}

/// Reports an error of the table as a whole.
pub(crate) fn problem_here(reader: &mut Reader<'_, '_>, what: &str, help: &str) {
    let place = reader.place();
    reader.report().error(place, what, help);
}

/// Reads the table under `field`, if it is written, as a table of its own.
pub(crate) fn table<T>(
    reader: &mut Reader<'_, '_>,
    field: &'static str,
    read: impl FnOnce(&mut Reader<'_, '_>) -> Option<T>,
) -> Option<T> {
    let value = reader.opt_value(field)?;
    table_of(reader, value, read)
}

/// Reads `value` as a table.
pub(crate) fn table_of<T>(
    reader: &mut Reader<'_, '_>,
    value: &Value,
    read: impl FnOnce(&mut Reader<'_, '_>) -> Option<T>,
) -> Option<T> {
    let mut inner = Reader::new(value, reader.report());
    let read = read(&mut inner);
    inner.finish();
    read
}

/// Reads the list of tables under `field`: `None` if it is not written; an empty
/// one, or one of more than `count_max`, is an error.
pub(crate) fn tables<T>(
    reader: &mut Reader<'_, '_>,
    field: &'static str,
    count_max: usize,
    mut read: impl FnMut(usize, &mut Reader<'_, '_>) -> Option<T>,
) -> Option<Vec<T>> {
    let items = reader.opt_array(field)?;
    if items.is_empty() || items.len() > count_max {
        problem(reader, field, &format!("`{field}` has 1 to {count_max} tables"), "");
    }
    let mut tables = Vec::with_capacity(items.len().min(count_max));
    for (index, item) in items.iter().enumerate() {
        tables.extend(table_of(reader, item, |inner| read(index, inner)));
    }
    Some(tables)
}

/// Compiles an expression and its replacement, each a text with its place.
pub(crate) fn substitution(
    reader: &mut Reader<'_, '_>,
    pattern: (&str, Place),
    replacement: (&str, Place),
    options: &str,
) -> Option<(Pattern, Replacement)> {
    let report = reader.report();
    let compiled = Pattern::new(pattern.0, options);
    if let Err(why) = &compiled {
        let help = "look-around and back-references are not taken: matching must stay linear";
        let what = format!("invalid regex `{}`", pattern.0);
        report.push(Problem::error(pattern.1, what).label(why.as_str()).help(help));
    }
    let read = Replacement::parse(replacement.0);
    if let Err(why) = &read {
        let what = format!("invalid replacement `{}`", replacement.0);
        let help = "a dollar sign itself is written `$$`";
        report.push(Problem::error(replacement.1, what).label(why.as_str()).help(help));
    }
    let (compiled, read) = (compiled.ok()?, read.ok()?);
    if read.group_max() >= compiled.groups() {
        let what = format!(
            "`${}` is always empty: the expression has {} groups",
            read.group_max(),
            compiled.groups() - 1
        );
        report.warning(replacement.1, what, "");
    }
    Some((compiled, read))
}
