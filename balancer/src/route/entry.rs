//! A route at one place of the tables, and the lists in which such entries stand in order.
//!
//! A list shares its memory with its clones, as the nodes around it do, and an only entry stands in the
//! node itself: that is nearly every list, and one cache miss less on the way.

use std::cmp::Reverse;
use std::sync::Arc;

use super::params::{Params, Scratch};
use super::pattern::Pattern;

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

/// A route under one pattern. Copied with the nodes of the trees, and read on every lookup: small.
pub(crate) struct Entry<T> {
    pub(crate) route: Arc<T>,
    /// What is left to check or capture, if anything.
    pub(crate) pattern: Option<Arc<Pattern>>,
    pub(crate) order: Arc<Order>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Entry { route: self.route.clone(), pattern: self.pattern.clone(), order: self.order.clone() }
    }
}

/// Entries in order; a single one, the common case, stands in the node itself.
#[derive(Default)]
pub(crate) enum List<T> {
    #[default]
    None,
    One(Entry<T>),
    Many(Arc<Vec<Entry<T>>>),
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        match self {
            List::None => List::None,
            List::One(entry) => List::One(entry.clone()),
            List::Many(entries) => List::Many(entries.clone()),
        }
    }
}

impl<T> List<T> {
    pub(crate) fn entries(&self) -> &[Entry<T>] {
        match self {
            List::None => &[],
            List::One(entry) => std::slice::from_ref(entry),
            List::Many(entries) => entries,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, List::None)
    }

    pub(crate) fn insert(&mut self, entry: Entry<T>) {
        *self = match std::mem::take(self) {
            List::None => List::One(entry),
            List::One(other) if other.order < entry.order => List::Many(Arc::new(vec![other, entry])),
            List::One(other) => List::Many(Arc::new(vec![entry, other])),
            List::Many(mut entries) => {
                let at = entries.partition_point(|other| other.order < entry.order);
                Arc::make_mut(&mut entries).insert(at, entry);
                List::Many(entries)
            }
        };
    }

    /// Takes out all entries of `route`; true if none is left.
    pub(crate) fn remove(&mut self, route: &Arc<T>, removed: &mut bool) -> bool {
        let has = self.entries().iter().any(|entry| Arc::ptr_eq(&entry.route, route));
        *removed |= has;
        if let (true, List::Many(entries)) = (has, &mut *self) {
            let entries = Arc::make_mut(entries);
            entries.retain(|entry| !Arc::ptr_eq(&entry.route, route));
            if entries.len() < 2 {
                *self = entries.pop().map_or(List::None, List::One);
            }
        } else if has {
            *self = List::None;
        }
        self.is_empty()
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
    pub(crate) fn take<'t>(
        &'t self,
        query: &mut Query<'_>,
        accept: &mut Accept<'_, 't, T>,
    ) -> Option<&'t Arc<T>> {
        query.params.clear();
        let fits = self
            .pattern
            .as_ref()
            .is_none_or(|pattern| pattern.capture(query.path, query.params, query.scratch));
        (fits && accept(&self.route, query.params)).then_some(&self.route)
    }
}
