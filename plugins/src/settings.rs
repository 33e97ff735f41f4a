//! Reading a plugin's settings: what `config::Reader` does not know.
//!
//! Every problem is reported with its place and reading goes on, so that one run
//! shows all of them; an instance is made only where there was none.

use std::ops::RangeInclusive;
use std::sync::Arc;

use config::expr::Expr;
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
    table_of(reader.report(), value, read)
}

/// Reads `value` as a table.
pub(crate) fn table_of<T>(
    report: &mut Report,
    value: &Value,
    read: impl FnOnce(&mut Reader<'_, '_>) -> Option<T>,
) -> Option<T> {
    let mut inner = Reader::new(value, report);
    let read = read(&mut inner);
    inner.finish();
    read
}

/// Reads the list of tables under `field`: `None` if it is not written; one with
/// fewer or more than `count` is an error.
pub(crate) fn tables<T>(
    reader: &mut Reader<'_, '_>,
    field: &'static str,
    count: RangeInclusive<usize>,
    mut read: impl FnMut(usize, &mut Reader<'_, '_>) -> Option<T>,
) -> Option<Vec<T>> {
    let items = reader.opt_array(field)?;
    if !count.contains(&items.len()) {
        let (least, most) = (count.start(), count.end());
        problem(
            reader,
            field,
            &format!("`{field}` has {least} to {most} tables"),
            &format!("write {field} = [{{ ... }}], with {least} to {most} tables in it"),
        );
    }
    let mut tables = Vec::with_capacity(items.len().min(*count.end()));
    for (index, item) in items.iter().enumerate() {
        tables.extend(table_of(reader.report(), item, |inner| read(index, inner)));
    }
    Some(tables)
}

/// Compiles the condition under `field`, if it is written.
pub(crate) fn condition(reader: &mut Reader<'_, '_>, field: &'static str) -> Option<Expr> {
    let value = reader.opt_value(field)?;
    Expr::parse(value, reader.report())
}

/// Reads a list of statuses of this range, none of them twice; `default` if it is not written.
pub(crate) fn statuses(
    reader: &mut Reader<'_, '_>,
    field: &'static str,
    range: RangeInclusive<u16>,
    default: u16,
) -> Vec<u16> {
    let Some(items) = reader.opt_array(field) else { return vec![default] };
    let mut statuses = Vec::with_capacity(items.len().min(range.len()));
    if items.is_empty() {
        problem(reader, field, &format!("`{field}` is empty"), "leave it out for the default");
    }
    for item in items {
        let status = item.as_i64().and_then(|status| u16::try_from(status).ok());
        match status.filter(|status| range.contains(status)) {
            Some(status) if !statuses.contains(&status) => statuses.push(status),
            Some(status) => reader.report().error(item, format!("{status} is there twice"), "remove one"),
            None => {
                let what = format!("`{field}` are statuses from {} to {}", range.start(), range.end());
                reader.report().error(item, what, format!("write {field} = [{default}]"));
            }
        }
    }
    statuses
}

/// Refuses something that is planned and not there yet.
pub(crate) fn not_built(report: &mut Report, place: Place, name: &str, help: &str) {
    let problem = Problem::error(place, format!("{name} is not built yet"));
    report.push(problem.label("this version cannot do it").help(help));
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
