//! Forms that several parts of an upstream share: shares, lists of statuses, tables that may be `true`.

use std::ops::RangeInclusive;

use crate::reader::{integer, wrong_type, Reader};
use crate::report::{Problem, Report};
use crate::value::{Kind, Value};

/// A share: a number from 0 to 1, or a text such as `"20%"`.
pub(super) fn ratio(reader: &mut Reader<'_, '_>, name: &'static str) -> Option<f64> {
    let value = reader.opt_value(name)?;
    let report = reader.report();
    match &value.kind {
        Kind::Integer(_) | Kind::Float(_) => number(name, value, report),
        Kind::String(text) => percent(name, text, value, report),
        _ => {
            let help = "a number from 0 to 1, or a string such as \"20%\"";
            wrong_type(report, value, "a share", help);
            None
        }
    }
}

/// [`ratio`] where nothing at all makes no sense.
pub(super) fn ratio_above_zero(reader: &mut Reader<'_, '_>, name: &'static str) -> Option<f64> {
    let ratio = ratio(reader, name)?;
    if ratio > 0.0 {
        return Some(ratio);
    }
    let place = reader.value_place(name);
    let problem = Problem::error(place, format!("`{name}` is out of range: 0")).label("must be above 0");
    reader.report().push(problem.help("leave the table out to switch it off"));
    None
}

fn number(name: &str, value: &Value, report: &mut Report) -> Option<f64> {
    let number = value.as_f64()?;
    if (0.0..=1.0).contains(&number) {
        return Some(number);
    }
    let help = if number > 1.0 && number <= 100.0 {
        format!("write \"{number}%\"")
    } else {
        "write \"20%\", or a number from 0 to 1".to_owned()
    };
    let problem = Problem::error(value, format!("`{name}` is out of range: {number}"));
    report.push(problem.label("must be 0 to 1, or \"0%\" to \"100%\"").help(help));
    None
}

fn percent(name: &str, text: &str, value: &Value, report: &mut Report) -> Option<f64> {
    let digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let read = |text: &str| text.trim().parse::<f64>().ok().filter(|_| digits(text.trim()));
    let Some(number) = text.trim().strip_suffix('%').and_then(read) else {
        let label = if read(text).is_some() { "the `%` is missing" } else { "must be a number and `%`" };
        let problem = Problem::error(value, format!("`{name}` is no share: {value}")).label(label);
        report.push(problem.help("write a string such as \"20%\", or a number from 0 to 1"));
        return None;
    };
    if number > 100.0 {
        let what = format!("`{name}` is out of range: {text}");
        report.push(
            Problem::error(value, what)
                .label("must be 0% to 100%")
                .help(format!("write {name} = \"100%\" or less")),
        );
        return None;
    }
    Some(number / 100.0)
}

/// A list of statuses within bounds, none twice; an empty one is an error.
pub(super) fn statuses(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    range: RangeInclusive<i64>,
) -> Option<Vec<u16>> {
    let items = reader.opt_array(name)?;
    if items.is_empty() {
        let place = reader.value_place(name);
        reader.report().error(place, format!("`{name}` is empty"), "leave it out for the default");
    }
    let mut list = Vec::with_capacity(items.len().min(400));
    for item in items {
        let status = integer(reader.report(), name, item, range.clone()).map(|status| status as u16);
        list.extend(status.filter(|status| !list.contains(status)));
    }
    Some(list)
}

/// A whole number within bounds, as the 32 bits that it is kept in.
pub(super) fn count(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    range: RangeInclusive<u32>,
) -> Option<u32> {
    let range = i64::from(*range.start())..=i64::from(*range.end());
    reader.range(name, range).map(|count| count as u32)
}

/// A table, or `true` for all of its defaults, or `false` for none.
pub(super) fn switched<T: Default>(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    read: fn(&Value, &mut Report) -> T,
) -> Option<T> {
    let value = reader.opt_value(name)?;
    match value.as_bool() {
        Some(on) => on.then(T::default),
        None => Some(read(value, reader.report())),
    }
}

/// Says that a field does nothing as things are.
pub(super) fn without_effect(reader: &mut Reader<'_, '_>, name: &'static str, help: &str) {
    if reader.has(name) {
        let place = reader.value_place(name);
        reader.report().warning(place, format!("`{name}` has no effect"), help);
    }
}
