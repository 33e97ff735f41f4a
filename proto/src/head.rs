//! A message head as an offset table: one arena of bytes and one short record per field.
//!
//! A hash map would lose what a gateway must keep (order, case, duplicates) and cost an allocation
//! per field. Here parsing copies the head once and notes where things are; both vectors keep
//! their capacity, so a warm `Head` takes a message without allocating.
//!
//! Every field is a whole line `name: value\r\n` in the arena, also one that was set later. So
//! writing is a few copies of long runs: neighbouring records whose lines touch leave together.
//!
//! A `Head` never serialises to something that is no head: edits replace the bytes that could end
//! a line (RFC 9110 section 5.5), whatever a plugin was talked into. Checking what a user *meant*
//! is the caller's: [`valid_field_name`], [`valid_field_value`].
//!
//! Reading bytes into a head is in `parse`, the numbers of known names in `name`.

mod name;
mod parse;
mod reason;
mod start_line;

pub use name::Name;
pub use parse::{parse_request, parse_response, HeadError, HeadLimits};
pub use reason::reason_phrase;
pub use start_line::{Method, Version};

use crate::syntax::{self, trim};
use name::NameSet;

/// An arena that grew past this is given back by [`Head::clear`], in bytes.
const ARENA_KEPT_BYTES_MAX: usize = 64 * 1024;
/// A record table that grew past this is given back by [`Head::clear`].
const FIELDS_KEPT_MAX: usize = 256;

/// A stretch of bytes: offset and length within whatever it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The span from `start` up to, not including, `end`. Both must fit in 32 bits.
    #[inline]
    pub fn between(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// The bytes it covers; empty when it does not lie within `bytes`.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }

    #[inline]
    fn end(self) -> u32 {
        self.start + self.len
    }
}

/// One field as it is read: known number, name as spelled, value without outer whitespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldRef<'a> {
    /// The number of the name.
    pub id: Name,
    /// The name as it was spelled.
    pub name: &'a [u8],
    /// The value, without whitespace around it.
    pub value: &'a [u8],
}

#[derive(Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
    id: Name,
    /// The arena holds exactly `name: value\r\n` here, so that the line can be copied whole.
    exact: bool,
}

/// The head of one request or response: start line and fields.
#[derive(Clone, Default)]
pub struct Head {
    arena: Vec<u8>,
    fields: Vec<Field>,
    present: NameSet,
    start: start_line::StartLine,
}

impl Head {
    /// An empty response head, status 0. Allocates nothing yet.
    pub fn new() -> Head {
        Head::default()
    }

    /// Forgets the message and keeps the memory, unless the arena grew over 64 KiB.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.fields.clear();
        self.present = NameSet::default();
        self.start = start_line::StartLine::default();
        if self.arena.capacity() > ARENA_KEPT_BYTES_MAX {
            self.arena = Vec::new();
        }
        if self.fields.capacity() > FIELDS_KEPT_MAX {
            self.fields = Vec::new();
        }
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.fields.capacity() * std::mem::size_of::<Field>()
    }

    /// How many fields there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields in the order they arrived or were appended.
    #[inline]
    pub fn fields(&self) -> impl Iterator<Item = FieldRef<'_>> + Clone {
        self.fields.iter().map(|field| field.read(&self.arena))
    }

    /// The value of the first field of that name. [`Name::Other`] finds nothing.
    #[inline]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        if !self.has(name) {
            return None;
        }
        let field = self.fields.iter().find(|field| field.id == name)?;
        Some(field.value.of(&self.arena))
    }

    /// The values of all fields of that name, in order. [`Name::Other`] finds nothing.
    #[inline]
    pub fn get_all(&self, name: Name) -> impl Iterator<Item = &[u8]> + Clone {
        let fields = if self.has(name) { self.fields.as_slice() } else { &[] };
        fields.iter().filter(move |field| field.id == name).map(|field| field.value.of(&self.arena))
    }

    /// Whether a field of that name is there: one bit test. Never for [`Name::Other`].
    #[inline]
    pub fn has(&self, name: Name) -> bool {
        self.present.contains(name)
    }

    /// How many fields of that name are there; 0 for [`Name::Other`].
    pub fn count(&self, name: Name) -> usize {
        self.get_all(name).count()
    }

    /// The value of the first field with that name, ASCII case ignored.
    pub fn get_named(&self, name: &[u8]) -> Option<&[u8]> {
        self.get_all_named(name).next()
    }

    /// The values of all fields with that name, ASCII case ignored, in order.
    pub fn get_all_named<'a, 'n>(
        &'a self,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        let id = Name::from_bytes(name);
        let possible = id == Name::Other || self.has(id);
        let fields = if possible { self.fields.as_slice() } else { &[] };
        fields
            .iter()
            .filter(move |field| field.is_named(id, name, &self.arena))
            .map(|field| field.value.of(&self.arena))
    }

    /// Puts a field at the end.
    ///
    /// A name that is no token leaves the head as it was; bytes that may not stand in a value are
    /// replaced by spaces. Callers that take either from a user check them before and complain.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let id = Name::from_bytes(name);
        if id == Name::Other && !valid_field_name(name) {
            return;
        }
        let Some(start) = self.room(name.len() + value.len() + 4) else { return };
        self.arena.extend_from_slice(name);
        let field = self.finish_line(start, name.len(), id, value);
        self.fields.push(field);
        self.note(id);
    }

    /// Appends a field whose number is at hand: as [`Head::append`], for less.
    ///
    /// `spelling` is how its name is written; it has to be that name (checked in debug builds).
    #[inline]
    pub fn append_known(&mut self, id: Name, spelling: &'static [u8], value: &[u8]) {
        debug_assert!(id != Name::Other && Name::from_bytes(spelling) == id);
        let value = trim_unclean(value);
        let length = spelling.len() + value.len() + 4;
        let Some(start) = self.room(length) else { return };
        self.arena.reserve(length);
        self.arena.extend_from_slice(spelling);
        self.arena.extend_from_slice(b": ");
        let value_start = self.arena.len();
        extend_clean(&mut self.arena, value);
        let value_end = self.arena.len();
        self.arena.extend_from_slice(b"\r\n");
        let name = Span { start: start as u32, len: spelling.len() as u32 };
        self.fields.push(Field { name, value: Span::between(value_start, value_end), id, exact: true });
        self.present.insert(id);
    }

    /// Sets a field whose number is at hand: as [`Head::set`], for less where it is not there yet.
    #[inline]
    pub fn set_known(&mut self, id: Name, spelling: &'static [u8], value: &[u8]) {
        match self.has(id) {
            true => self.set(spelling, value),
            false => self.append_known(id, spelling, value),
        }
    }

    /// Gives the field this value: the first one keeps its position and the spelling of its name,
    /// further ones go; without any it is appended. The rules of [`Head::append`] hold.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let id = Name::from_bytes(name);
        let Some(index) = self.position(id, name) else { return self.append(name, value) };
        let old = self.fields[index].name;
        let Some(start) = self.room(name.len() + value.len() + 4) else { return };
        self.arena.extend_from_within(old.start as usize..old.end() as usize);
        self.fields[index] = self.finish_line(start, old.len as usize, id, value);
        let arena = &self.arena;
        let mut at = 0;
        self.fields.retain(|field| {
            at += 1;
            at <= index + 1 || !field.is_named(id, name, arena)
        });
    }

    /// Joins the value onto the last field of that name as `old, value`, or appends it.
    /// The rules of [`Head::append`] hold.
    pub fn append_value(&mut self, name: &[u8], value: &[u8]) {
        let id = Name::from_bytes(name);
        let last = match id {
            Name::Other => self.fields.iter().rposition(|f| f.is_named(id, name, &self.arena)),
            known if !self.has(known) => None,
            known => self.fields.iter().rposition(|field| field.id == known),
        };
        let Some(index) = last else { return self.append(name, value) };
        let Field { name: old_name, value: old_value, .. } = self.fields[index];
        if old_value.len == 0 {
            return self.replace_value(index, value);
        }
        let value = trim_unclean(value);
        if value.is_empty() {
            return;
        }
        let needed = name.len() + old_value.len as usize + value.len() + 6;
        let Some(start) = self.room(needed) else { return };
        self.arena.extend_from_within(old_name.start as usize..old_name.end() as usize);
        self.arena.extend_from_slice(b": ");
        self.arena.extend_from_within(old_value.start as usize..old_value.end() as usize);
        self.arena.extend_from_slice(b", ");
        extend_clean(&mut self.arena, value);
        let value_start = start + old_name.len as usize + 2;
        let value_span = Span::between(value_start, self.arena.len());
        self.arena.extend_from_slice(b"\r\n");
        let name_span = Span { start: start as u32, len: old_name.len };
        self.fields[index] = Field { name: name_span, value: value_span, id, exact: true };
    }

    /// Removes every field of that name. [`Name::Other`] removes nothing.
    pub fn remove(&mut self, name: Name) {
        if self.has(name) {
            self.fields.retain(|field| field.id != name);
            self.present.remove(name);
        }
    }

    /// Removes every field with that name, ASCII case ignored.
    pub fn remove_named(&mut self, name: &[u8]) {
        match Name::from_bytes(name) {
            Name::Other => {
                let arena = &self.arena;
                self.fields.retain(|field| !field.is_named(Name::Other, name, arena));
            }
            known => self.remove(known),
        }
    }

    /// Keeps the fields for which `keep` says so, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(FieldRef<'_>) -> bool) {
        let arena = &self.arena;
        let mut present = NameSet::default();
        self.fields.retain(|field| {
            let kept = keep(field.read(arena));
            if kept && field.id != Name::Other {
                present.insert(field.id);
            }
            kept
        });
        self.present = present;
    }

    /// Writes every field as `name: value\r\n`, without the empty line that ends a head.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for field in &self.fields {
            let line = field.name.start as usize..field.value.end() as usize + 2;
            if field.exact && line.start == run.end {
                run.end = line.end;
                continue;
            }
            out.extend_from_slice(self.arena.get(run).unwrap_or_default());
            if field.exact {
                run = line;
            } else {
                run = 0..0;
                out.extend_from_slice(field.name.of(&self.arena));
                out.extend_from_slice(b": ");
                out.extend_from_slice(field.value.of(&self.arena));
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(self.arena.get(run).unwrap_or_default());
    }

    fn position(&self, id: Name, name: &[u8]) -> Option<usize> {
        if id != Name::Other && !self.has(id) {
            return None;
        }
        self.fields.iter().position(|field| field.is_named(id, name, &self.arena))
    }

    /// The arena's end, if so many more bytes leave every offset within 32 bits. No message gets
    /// near: heads are limited to kilobytes and edits are few.
    fn room(&self, more: usize) -> Option<usize> {
        let end = self.arena.len();
        (end.saturating_add(more) < u32::MAX as usize).then_some(end)
    }

    fn replace_value(&mut self, index: usize, value: &[u8]) {
        let Field { name, id, .. } = self.fields[index];
        let Some(start) = self.room(name.len as usize + value.len() + 4) else { return };
        self.arena.extend_from_within(name.start as usize..name.end() as usize);
        self.fields[index] = self.finish_line(start, name.len as usize, id, value);
    }

    /// Completes the line whose name was just put at `start`.
    fn finish_line(&mut self, start: usize, name_len: usize, id: Name, value: &[u8]) -> Field {
        self.arena.extend_from_slice(b": ");
        let value_start = self.arena.len();
        extend_clean(&mut self.arena, trim_unclean(value));
        let value_end = self.arena.len();
        self.arena.extend_from_slice(b"\r\n");
        Field {
            name: Span { start: start as u32, len: name_len as u32 },
            value: Span::between(value_start, value_end),
            id,
            exact: true,
        }
    }

    #[inline]
    fn note(&mut self, id: Name) {
        if id != Name::Other {
            self.present.insert(id);
        }
    }
}

impl Field {
    #[inline]
    fn read<'a>(&self, arena: &'a [u8]) -> FieldRef<'a> {
        FieldRef { id: self.id, name: self.name.of(arena), value: self.value.of(arena) }
    }

    #[inline]
    fn is_named(&self, id: Name, name: &[u8], arena: &[u8]) -> bool {
        self.id == id && (id != Name::Other || self.name.of(arena).eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        if self.is_request() {
            self.write_request_line(&mut text);
        } else {
            self.write_status_line(&mut text);
        }
        self.write_fields(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// Whether `name` is a token, as a field name has to be (RFC 9110 section 5.1).
pub fn valid_field_name(name: &[u8]) -> bool {
    !name.is_empty() && syntax::token_end(name, 0) == name.len()
}

/// Whether `value` is free of CR, LF, NUL and other control bytes save HTAB, and has no whitespace
/// at its ends (RFC 9110 section 5.5). The empty value is valid.
pub fn valid_field_value(value: &[u8]) -> bool {
    syntax::value_end(value, 0) == value.len() && trim(value).len() == value.len()
}

/// Appends `value` with a space in the place of each byte that may not stand in a value.
#[inline]
fn extend_clean(arena: &mut Vec<u8>, value: &[u8]) {
    let good = syntax::value_end(value, 0);
    arena.extend_from_slice(&value[..good]);
    if good == value.len() {
        return;
    }
    arena.extend(value[good..].iter().map(|&b| if syntax::is_value_byte(b) { b } else { b' ' }));
}

/// Takes off both ends what [`extend_clean`] would leave there as whitespace.
fn trim_unclean(mut bytes: &[u8]) -> &[u8] {
    let blank = |b: u8| b == b' ' || b == b'\t' || !syntax::is_value_byte(b);
    while let [first, rest @ ..] = bytes {
        if !blank(*first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !blank(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests;
