//! Where something was written: twelve bytes that stay with every value.
//!
//! A document of 40,000 routes has about a million values, so a place is a file
//! number and a byte range and no more. Names, lines, columns and the path
//! (`routes[3].uri`) are found from it when a problem is shown, by [`Sources`].
//!
//! Two places are always equal: so `#[derive(PartialEq)]` on a resource compares
//! what it says and not where it stands, and a moved route is no changed route.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A byte range in one of the files of a document, or nowhere.
#[derive(Clone, Copy)]
pub struct Place {
    file: u32,
    start: u32,
    end: u32,
}

impl Place {
    /// The place of what was not written in a file: a default, a JSON body.
    pub const NOWHERE: Place = Place { file: u32::MAX, start: 0, end: 0 };

    /// Bytes `span` of file number `file` (its index in [`Sources`]).
    pub fn new(file: u32, span: Range<usize>) -> Place {
        let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Place { file, start: clamp(span.start), end: clamp(span.end.max(span.start)) }
    }

    /// Whether it stands in a file at all.
    pub fn is_somewhere(&self) -> bool {
        self.file != u32::MAX
    }

    /// The index of its file in [`Sources`]; `u32::MAX` for nowhere.
    pub fn file(&self) -> u32 {
        self.file
    }

    /// Its bytes in that file.
    pub fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// From the start of this place to the end of `other` (this place if it is in another file).
    pub fn to(self, other: Place) -> Place {
        if self.file != other.file {
            return self;
        }
        Place { file: self.file, start: self.start, end: other.end.max(self.end) }
    }

    /// What places sort by: file, then position.
    pub(crate) fn order(&self) -> (u32, u32, u32) {
        (self.file, self.start, self.end)
    }
}

impl Default for Place {
    fn default() -> Place {
        Place::NOWHERE
    }
}

impl PartialEq for Place {
    /// Always true: see the head of this file.
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_somewhere() {
            write!(f, "@{}:{}..{}", self.file, self.start, self.end)
        } else {
            f.write_str("@nowhere")
        }
    }
}

/// One file as it was read.
#[derive(Debug)]
pub struct Source {
    /// The name under which problems mention it, and from which its includes are resolved.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Byte offsets at which lines begin; made when first asked for.
    lines: OnceLock<Vec<u32>>,
}

impl Source {
    /// A file with this name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source { name: name.into(), text: text.into(), lines: OnceLock::new() }
    }

    /// Line and column (both from 1, the column in characters) of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
        let starts = self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at as u32 + 1)).collect()
        });
        let line = starts.partition_point(|start| *start as usize <= offset);
        let start = starts[line - 1] as usize;
        (line, self.text[start..offset].chars().count() + 1)
    }

    /// The directory that relative paths in this file start from.
    pub fn directory(&self) -> PathBuf {
        Path::new(&self.name).parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// The nearest character boundary at or before `offset`.
    pub(crate) fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// The files of a document, by the numbers that [`Place`]s hold. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Arc<Source>>,
}

impl Sources {
    /// Takes a file in and gives its number.
    pub fn add(&mut self, source: Source) -> u32 {
        self.files.push(Arc::new(source));
        (self.files.len() - 1) as u32
    }

    /// The file in which a place is.
    pub fn get(&self, place: Place) -> Option<&Arc<Source>> {
        self.files.get(place.file as usize)
    }

    /// Every file in the order in which they were read.
    pub fn files(&self) -> &[Arc<Source>] {
        &self.files
    }

    /// Part of a string that stands at `place`: its bytes where it was written plainly,
    /// the whole of it where escapes or `${...}` make the written text another.
    pub(crate) fn within(&self, place: Place, text: &str, part: Range<usize>) -> Place {
        let written = self.get(place).and_then(|source| source.text.get(place.span()));
        let inner = written.and_then(|written| written.get(1..written.len().saturating_sub(1)));
        if inner != Some(text) {
            return place;
        }
        let start = place.span().start + 1;
        Place::new(place.file, start + part.start..start + part.end)
    }

    /// `ringway.toml:78`, or `None` for nowhere.
    pub fn line_of(&self, place: Place) -> Option<String> {
        let source = self.get(place)?;
        Some(format!("{}:{}", source.name, source.line_column(place.start as usize).0))
    }

    /// `ringway.toml:78:12`, or `None` for nowhere.
    pub fn locate(&self, place: Place) -> Option<String> {
        let source = self.get(place)?;
        let (line, column) = source.line_column(place.start as usize);
        Some(format!("{}:{line}:{column}", source.name))
    }
}

impl PartialEq for Sources {
    /// Always true, as places are: how a document is laid out in files is not what it says.
    fn eq(&self, _: &Sources) -> bool {
        true
    }
}
