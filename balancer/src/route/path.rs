//! URIs: which routes a path leads to, in order.
//!
//! A [`Uris`] is a radix tree by the literal beginning of each pattern; at each node stand the
//! routes with exactly that path and those with that prefix, each group a [`Bucket`]. Inside a
//! bucket the order is by priority, then by the pattern's length, then by place.
//!
//! A bucket may be large: `/:tenant/a`, `/:tenant/b` and thousands more all begin with `/`, and
//! where the URI comes before the host one path may belong to thousands of hosts. So it is indexed
//! by host and by *shape*: which segments are literal, how many there are, whether a star
//! follows. All patterns of a shape are found by one lookup of the path's own segments at the
//! literal positions. A lookup costs one step per shape in use, never one per pattern, and cannot
//! branch as a tree of segments would, where `:x` and a literal both lead on and the number of
//! ways doubles with each segment. Only patterns with an inner star are tried one by one, those
//! with the same literals before the star and the same last segment.

use std::cmp::Reverse;
use std::sync::Arc;

use super::host::{HostPattern, Hosts};
use super::params::{Params, Scratch};
use super::pattern::{self, Pattern, PatternKind, Segment};
use super::radix::Radix;

/// Lists merged without walking them again; a request that meets more is slower, not wrong.
const LISTS_MAX: usize = 16;

/// The place of a route among the others of its bucket; the least is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) priority: Reverse<i64>,
    /// Bytes of the pattern.
    pub(crate) length: Reverse<u32>,
    pub(crate) place: u64,
    /// The number of the pattern's insertion: makes orders unique, but for one pattern under several hosts.
    pub(crate) number: u64,
}

pub(crate) struct Entry<T> {
    pub(crate) order: Order,
    pub(crate) route: Arc<T>,
    /// What is left to check or capture, if anything.
    pub(crate) pattern: Option<Arc<Pattern>>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Entry { order: self.order, route: self.route.clone(), pattern: self.pattern.clone() }
    }
}

/// Entries in order; a single one, the common case, stands in the node itself.
enum List<T> {
    One(Entry<T>),
    Many(Vec<Entry<T>>),
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        match self {
            List::One(entry) => List::One(entry.clone()),
            List::Many(entries) => List::Many(entries.clone()),
        }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List::Many(Vec::new())
    }
}

impl<T> List<T> {
    fn entries(&self) -> &[Entry<T>] {
        match self {
            List::One(entry) => std::slice::from_ref(entry),
            List::Many(entries) => entries,
        }
    }

    fn insert(&mut self, entry: Entry<T>) {
        *self = match std::mem::take(self) {
            List::Many(entries) if entries.is_empty() => List::One(entry),
            List::One(other) if other.order < entry.order => List::Many(vec![other, entry]),
            List::One(other) => List::Many(vec![entry, other]),
            List::Many(mut entries) => {
                let at = entries.partition_point(|other| other.order < entry.order);
                entries.insert(at, entry);
                List::Many(entries)
            }
        };
    }

    /// Takes out all entries of `route`; true if none is left.
    fn remove(&mut self, route: &Arc<T>, removed: &mut bool) -> bool {
        let before = self.entries().len();
        *self = match std::mem::take(self) {
            List::One(entry) if Arc::ptr_eq(&entry.route, route) => List::default(),
            List::One(entry) => List::One(entry),
            List::Many(mut entries) => {
                entries.retain(|entry| !Arc::ptr_eq(&entry.route, route));
                match entries.len() {
                    1 => List::One(entries.remove(0)),
                    _ => List::Many(entries),
                }
            }
        };
        *removed |= self.entries().len() != before;
        self.entries().is_empty()
    }
}

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
struct Shapes<T> {
    /// Those that match whatever follows.
    plain: List<T>,
    shapes: Vec<Shape<T>>,
    /// The most segments before a star, over all shapes.
    segments: usize,
}

impl<T> Clone for Shapes<T> {
    fn clone(&self) -> Self {
        Shapes { plain: self.plain.clone(), shapes: self.shapes.clone(), segments: self.segments }
    }
}

impl<T> Default for Shapes<T> {
    fn default() -> Self {
        Shapes { plain: List::default(), shapes: Vec::new(), segments: 0 }
    }
}

impl<T> Shapes<T> {
    fn insert(&mut self, pattern: &Pattern, entry: Entry<T>) {
        let PatternKind::Segments(segments) = &pattern.kind else { return self.plain.insert(entry) };
        let (form, key) = Form::of(segments);
        self.segments = self.segments.max(form.literal.len());
        let at = match self.shapes.iter().position(|shape| shape.form == form) {
            Some(at) => at,
            None => {
                self.shapes.push(Shape { form, lists: Radix::default() });
                self.shapes.len() - 1
            }
        };
        self.shapes[at].lists.entry(&key).insert(entry);
    }

    /// True if nothing is left.
    fn remove(&mut self, pattern: &Pattern, route: &Arc<T>, removed: &mut bool) -> bool {
        if let PatternKind::Segments(segments) = &pattern.kind {
            let (form, key) = Form::of(segments);
            for shape in self.shapes.iter_mut().filter(|shape| shape.form == form) {
                shape.lists.edit(&key, &mut |list| list.remove(route, removed));
            }
            self.shapes.retain(|shape| !shape.lists.is_empty());
            self.segments = self.shapes.iter().map(|shape| shape.form.literal.len()).max().unwrap_or(0);
        } else {
            self.plain.remove(route, removed);
        }
        self.plain.entries().is_empty() && self.shapes.is_empty()
    }

    /// Shows `visit` each list whose patterns fit `rest`, what follows the prefix.
    fn lists<'t>(&'t self, rest: &[u8], scratch: &mut Scratch, visit: &mut dyn FnMut(&'t [Entry<T>])) {
        if !self.plain.entries().is_empty() {
            visit(self.plain.entries());
        }
        if self.shapes.is_empty() {
            return;
        }
        pattern::split(rest, self.segments + 1, &mut scratch.segments);
        for shape in &self.shapes {
            if shape.form.cut(rest, scratch) {
                if let Some(list) = shape.lists.get(&scratch.key) {
                    visit(list.entries());
                }
            }
        }
    }
}

/// The routes of one prefix (or exact path): those for every host, and those with hosts of their own
/// where the URI comes before the host.
struct Bucket<T> {
    any: Shapes<T>,
    hosted: Option<Box<Hosts<Shapes<T>>>>,
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Bucket { any: self.any.clone(), hosted: self.hosted.clone() }
    }
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Bucket { any: Shapes::default(), hosted: None }
    }
}

/// What a lookup looks for, and what it may scribble on.
pub(crate) struct Query<'q> {
    /// Reversed, see [`super::host::reverse`].
    pub(crate) host: &'q [u8],
    pub(crate) port: u16,
    pub(crate) path: &'q [u8],
    pub(crate) params: &'q mut Params,
    pub(crate) scratch: &'q mut Scratch,
}

/// Whether the caller takes a route.
pub(crate) type Accept<'a, 't, T> = dyn FnMut(&'t Arc<T>, &Params) -> bool + 'a;

impl<T> Entry<T> {
    fn take<'t>(&'t self, query: &mut Query<'_>, accept: &mut Accept<'_, 't, T>) -> Option<&'t Arc<T>> {
        query.params.clear();
        let fits = self
            .pattern
            .as_ref()
            .is_none_or(|pattern| pattern.capture(query.path, query.params, query.scratch));
        (fits && accept(&self.route, query.params)).then_some(&self.route)
    }
}

impl<T> Bucket<T> {
    fn find<'t>(
        &'t self,
        depth: usize,
        query: &mut Query<'_>,
        accept: &mut Accept<'_, 't, T>,
    ) -> Option<&'t Arc<T>> {
        if self.hosted.is_none() && self.any.shapes.is_empty() {
            return self.any.plain.entries().iter().find_map(|entry| entry.take(query, accept));
        }
        let mut lists: [&'t [Entry<T>]; LISTS_MAX] = [&[]; LISTS_MAX];
        let mut count = 0;
        self.lists(depth, query, &mut |list| {
            if let Some(slot) = lists.get_mut(count) {
                *slot = list;
            }
            count += 1;
        });
        match count {
            0 => None,
            1 => lists[0].iter().find_map(|entry| entry.take(query, accept)),
            2..=LISTS_MAX => merge(&mut lists[..count], query, accept),
            _ => self.find_in_rounds(depth, query, accept),
        }
    }

    fn lists<'t>(&'t self, depth: usize, query: &mut Query<'_>, visit: &mut dyn FnMut(&'t [Entry<T>])) {
        let rest = &query.path[depth..];
        let scratch = &mut *query.scratch;
        self.any.lists(rest, scratch, visit);
        if let Some(hosted) = &self.hosted {
            hosted.search(query.host, query.port, |shapes| {
                shapes.lists(rest, scratch, visit);
                None::<()>
            });
        }
    }

    /// Looks for the next entry in all lists anew after each refusal: slow, but without memory.
    fn find_in_rounds<'t>(
        &'t self,
        depth: usize,
        query: &mut Query<'_>,
        accept: &mut Accept<'_, 't, T>,
    ) -> Option<&'t Arc<T>> {
        let mut last: Option<Order> = None;
        loop {
            let mut next: Option<&'t Entry<T>> = None;
            self.lists(depth, query, &mut |list| {
                let at = last.map_or(0, |last| list.partition_point(|entry| entry.order <= last));
                if let Some(entry) = list.get(at) {
                    if next.is_none_or(|next| entry.order < next.order) {
                        next = Some(entry);
                    }
                }
            });
            let entry = next?;
            if let Some(route) = entry.take(query, accept) {
                return Some(route);
            }
            last = Some(entry.order);
        }
    }

    /// True if nothing is left.
    fn remove(&mut self, key: &UriKey<'_>, route: &Arc<T>, removed: &mut bool) -> bool {
        match key.host {
            None => {
                self.any.remove(key.pattern, route, removed);
            }
            Some(host) => {
                if let Some(hosted) = &mut self.hosted {
                    hosted.edit(host, &mut |shapes| shapes.remove(key.pattern, route, removed));
                }
                self.hosted = self.hosted.take().filter(|hosted| !hosted.is_empty());
            }
        }
        self.hosted.is_none() && self.any.plain.entries().is_empty() && self.any.shapes.is_empty()
    }
}

/// Tries the entries of all lists in their common order.
fn merge<'t, T>(
    lists: &mut [&'t [Entry<T>]],
    query: &mut Query<'_>,
    accept: &mut Accept<'_, 't, T>,
) -> Option<&'t Arc<T>> {
    let mut last = None;
    loop {
        let heads = lists.iter_mut().filter(|list| !list.is_empty());
        let list = heads.min_by_key(|list| list[0].order)?;
        let (entry, rest) = list.split_first()?;
        *list = rest;
        // A route that two of its own host patterns lead to is asked once.
        if last.replace(entry.order) == Some(entry.order) {
            continue;
        }
        if let Some(route) = entry.take(query, accept) {
            return Some(route);
        }
    }
}

/// Where an entry stands in a [`Uris`].
pub(crate) struct UriKey<'k> {
    pub(crate) pattern: &'k Arc<Pattern>,
    /// Where the URI comes before the host: the host pattern.
    pub(crate) host: Option<&'k HostPattern>,
}

/// What stands at one literal beginning.
struct Leaf<T> {
    exact: Option<Box<Bucket<T>>>,
    prefix: Option<Box<Bucket<T>>>,
}

impl<T> Clone for Leaf<T> {
    fn clone(&self) -> Self {
        Leaf { exact: self.exact.clone(), prefix: self.prefix.clone() }
    }
}

impl<T> Default for Leaf<T> {
    fn default() -> Self {
        Leaf { exact: None, prefix: None }
    }
}

impl<T> Leaf<T> {
    fn bucket(&mut self, pattern: &Pattern) -> &mut Option<Box<Bucket<T>>> {
        match pattern.kind {
            PatternKind::Exact => &mut self.exact,
            _ => &mut self.prefix,
        }
    }
}

/// Routes by URI.
pub(crate) struct Uris<T> {
    tree: Radix<Leaf<T>>,
}

impl<T> Clone for Uris<T> {
    fn clone(&self) -> Self {
        Uris { tree: self.tree.clone() }
    }
}

impl<T> Default for Uris<T> {
    fn default() -> Self {
        Uris { tree: Radix::default() }
    }
}

impl<T> Uris<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub(crate) fn insert(&mut self, key: &UriKey<'_>, route: &Arc<T>, order: Order) {
        let pattern = key.pattern;
        let checked = (!pattern.is_plain()).then(|| pattern.clone());
        let entry = Entry { order, route: route.clone(), pattern: checked };
        let bucket = self.tree.entry(&pattern.prefix).bucket(pattern).get_or_insert_default();
        let shapes = match key.host {
            None => &mut bucket.any,
            Some(host) => bucket.hosted.get_or_insert_default().entry(host),
        };
        shapes.insert(pattern, entry);
    }

    /// Takes out the entries of `route` under `key`; `removed` becomes true if there were any.
    pub(crate) fn remove(&mut self, key: &UriKey<'_>, route: &Arc<T>, removed: &mut bool) {
        self.tree.edit(&key.pattern.prefix, &mut |leaf| {
            let bucket = leaf.bucket(key.pattern);
            if bucket.as_mut().is_some_and(|bucket| bucket.remove(key, route, removed)) {
                *bucket = None;
            }
            leaf.exact.is_none() && leaf.prefix.is_none()
        });
    }

    /// The first route that `accept` takes: of the exact path, then of the longest prefix, and so on.
    pub(crate) fn find<'t>(
        &'t self,
        query: &mut Query<'_>,
        accept: &mut Accept<'_, 't, T>,
    ) -> Option<&'t Arc<T>> {
        let path = query.path;
        self.tree.search(
            path,
            |leaf| leaf.prefix.is_some(),
            |leaf, depth, whole| {
                let bucket = if whole { &leaf.exact } else { &leaf.prefix };
                bucket.as_ref()?.find(depth, query, accept)
            },
        )
    }
}
