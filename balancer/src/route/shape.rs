//! Patterns that go on behind their literal beginning, found by what is literal in the rest.
//!
//! A prefix may have many such patterns: `/:tenant/a`, `/:tenant/b` and thousands more all begin
//! with `/`. They are indexed by *shape*: which segments are literal, how many there are, whether a
//! star follows. All patterns of a shape are found by one lookup of the path's own segments at
//! the literal positions. That costs one step per shape in use, never one per pattern, and cannot branch
//! as a tree of segments would, where `:x` and a literal both lead on and the number of ways doubles
//! with each segment. Only patterns with an inner star are tried one by one, those with
//! the same literals before the star and the same last segment.

use std::sync::Arc;

use super::entry::{Entry, List};
use super::params::Scratch;
use super::pattern::{self, Pattern, PatternKind, Segment};
use super::radix::Radix;

/// The shape of a pattern behind its literal beginning: how its key is cut from a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    /// Per segment up to the first star, whether it is literal.
    literal: Box<[bool]>,
    /// Whether a star follows, so that a path has more segments.
    open: bool,
    /// Whether the last segment after the star is literal too.
    ends: bool,
}

impl Form {
    /// The form of `segments` and their key in it.
    fn of(segments: &[Segment]) -> (Form, Vec<u8>) {
        let star = segments.iter().position(|segment| matches!(segment, Segment::Star(_)));
        let fixed = &segments[..star.unwrap_or(segments.len())];
        let last = segments.last().filter(|_| star.is_some());
        let mut key = Vec::new();
        let mut add = |segment: &Segment| match segment {
            Segment::Literal(text) => {
                push(&mut key, text);
                true
            }
            _ => false,
        };
        let literal = fixed.iter().map(&mut add).collect();
        let ends = last.is_some_and(&mut add);
        (Form { literal, open: star.is_some(), ends }, key)
    }

    /// Cuts the key of a path's rest, whose first segments are in `scratch.segments` (one more than any
    /// form of the bucket has, if the path has them); false if the path does not have this form.
    fn cut(&self, rest: &[u8], scratch: &mut Scratch) -> bool {
        let (fixed, found) = (self.literal.len(), scratch.segments.len());
        if found < fixed || (found > fixed) != self.open {
            return false;
        }
        scratch.key.clear();
        for (&literal, &(start, end)) in self.literal.iter().zip(&scratch.segments) {
            if literal {
                push(&mut scratch.key, &rest[start as usize..end as usize]);
            } else if start == end {
                return false;
            }
        }
        if self.ends {
            let last = memchr::memrchr(b'/', rest).map_or(0, |slash| slash + 1);
            push(&mut scratch.key, &rest[last..]);
        }
        true
    }
}

/// Segments hold no slash, so that keys of one form are equal only if all their segments are.
fn push(key: &mut Vec<u8>, segment: &[u8]) {
    key.extend_from_slice(segment);
    key.push(b'/');
}

struct Shape<T> {
    form: Form,
    lists: Radix<List<T>>,
}

impl<T> Clone for Shape<T> {
    fn clone(&self) -> Self {
        Shape { form: self.form.clone(), lists: self.lists.clone() }
    }
}

/// The routes of one prefix (or exact path) and one host pattern.
pub(crate) struct Shapes<T> {
    /// Those that match whatever follows.
    plain: List<T>,
    shaped: Shaped<T>,
}

/// The routes whose patterns go on behind the prefix.
pub(crate) struct Shaped<T> {
    /// None, or not empty.
    shapes: Option<Arc<Vec<Shape<T>>>>,
    /// The most segments before a star, over all shapes.
    segments: usize,
}

impl<T> Clone for Shapes<T> {
    fn clone(&self) -> Self {
        Shapes { plain: self.plain.clone(), shaped: self.shaped.clone() }
    }
}

impl<T> Default for Shapes<T> {
    fn default() -> Self {
        Shapes { plain: List::None, shaped: Shaped::default() }
    }
}

impl<T> Clone for Shaped<T> {
    fn clone(&self) -> Self {
        Shaped { shapes: self.shapes.clone(), segments: self.segments }
    }
}

impl<T> Default for Shaped<T> {
    fn default() -> Self {
        Shaped { shapes: None, segments: 0 }
    }
}

impl<T> Shapes<T> {
    pub(crate) fn insert(&mut self, pattern: &Pattern, entry: Entry<T>) {
        match &pattern.kind {
            PatternKind::Segments(segments) => self.shaped.insert(segments, entry),
            _ => self.plain.insert(entry),
        }
    }

    /// True if nothing is left.
    pub(crate) fn remove(&mut self, pattern: &Pattern, route: &Arc<T>, removed: &mut bool) -> bool {
        match &pattern.kind {
            PatternKind::Segments(segments) => self.shaped.remove(segments, route, removed),
            _ => drop(self.plain.remove(route, removed)),
        };
        self.plain.is_empty() && self.shaped.is_empty()
    }

    /// Shows `visit` each list whose patterns fit `rest`, what follows the prefix.
    pub(crate) fn lists<'t>(
        &'t self,
        rest: &[u8],
        scratch: &mut Scratch,
        visit: &mut dyn FnMut(&'t [Entry<T>]),
    ) {
        if !self.plain.is_empty() {
            visit(self.plain.entries());
        }
        self.shaped.lists(rest, scratch, visit);
    }
}

impl<T> Shaped<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.shapes.is_none()
    }

    pub(crate) fn insert(&mut self, segments: &[Segment], entry: Entry<T>) {
        let (form, key) = Form::of(segments);
        self.segments = self.segments.max(form.literal.len());
        let shapes = Arc::make_mut(self.shapes.get_or_insert_default());
        let at = match shapes.iter().position(|shape| shape.form == form) {
            Some(at) => at,
            None => {
                shapes.push(Shape { form, lists: Radix::default() });
                shapes.len() - 1
            }
        };
        shapes[at].lists.entry(&key).insert(entry);
    }

    pub(crate) fn remove(&mut self, segments: &[Segment], route: &Arc<T>, removed: &mut bool) {
        let (form, key) = Form::of(segments);
        let Some(shapes) = self.shapes.as_mut().map(Arc::make_mut) else { return };
        for shape in shapes.iter_mut().filter(|shape| shape.form == form) {
            shape.lists.edit(&key, &mut |list| list.remove(route, removed));
        }
        shapes.retain(|shape| !shape.lists.is_empty());
        self.segments = shapes.iter().map(|shape| shape.form.literal.len()).max().unwrap_or(0);
        if shapes.is_empty() {
            self.shapes = None;
        }
    }

    pub(crate) fn lists<'t>(
        &'t self,
        rest: &[u8],
        scratch: &mut Scratch,
        visit: &mut dyn FnMut(&'t [Entry<T>]),
    ) {
        let Some(shapes) = &self.shapes else { return };
        pattern::split(rest, self.segments + 1, &mut scratch.segments);
        for shape in shapes.iter() {
            if shape.form.cut(rest, scratch) {
                if let Some(list) = shape.lists.get(&scratch.key) {
                    visit(list.entries());
                }
            }
        }
    }
}
