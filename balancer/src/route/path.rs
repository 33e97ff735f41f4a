//! URIs: which routes a path leads to, in order.
//!
//! A [`Uris`] is a radix tree by the literal beginning of each pattern; at each node stand the
//! routes with exactly that path and those with that prefix, each group a [`Bucket`]. Inside a
//! bucket the order is by priority, then by the pattern's length, then by place. Where the URI comes
//! before the host, one bucket may belong to thousands of hosts, so it is indexed by host as well.
//!
//! A lookup gathers the lists of a bucket that fit the request and merges them.

use std::sync::Arc;

use super::entry::{Accept, Entry, List, Order, Query};
use super::host::{HostPattern, Hosts};
use super::pattern::{Pattern, PatternKind};
use super::radix::Radix;
use super::shape::{Shaped, Shapes};

/// Lists merged without walking them again; a request that meets more is slower, not wrong.
const LISTS_MAX: usize = 16;

/// The routes of one prefix (or exact path).
struct Bucket<T> {
    /// Those for every host that match whatever follows: all there is in most buckets.
    plain: List<T>,
    more: Option<Arc<More<T>>>,
}

/// What few buckets have.
struct More<T> {
    /// For every host: those whose patterns go on behind the prefix.
    shaped: Shaped<T>,
    /// Where the URI comes before the host: those with hosts of their own.
    hosted: Hosts<Shapes<T>>,
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Bucket { plain: self.plain.clone(), more: self.more.clone() }
    }
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Bucket { plain: List::None, more: None }
    }
}

impl<T> Clone for More<T> {
    fn clone(&self) -> Self {
        More { shaped: self.shaped.clone(), hosted: self.hosted.clone() }
    }
}

impl<T> Default for More<T> {
    fn default() -> Self {
        More { shaped: Shaped::default(), hosted: Hosts::default() }
    }
}

impl<T> Bucket<T> {
    fn find<'t>(
        &'t self,
        depth: usize,
        query: &mut Query<'_>,
        accept: &mut Accept<'_, 't, T>,
    ) -> Option<&'t Arc<T>> {
        if self.more.is_none() {
            return self.plain.entries().iter().find_map(|entry| entry.take(query, accept));
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
        if !self.plain.is_empty() {
            visit(self.plain.entries());
        }
        let Some(more) = &self.more else { return };
        let rest = &query.path[depth..];
        let scratch = &mut *query.scratch;
        more.shaped.lists(rest, scratch, visit);
        more.hosted.search(query.host, query.port, |shapes| {
            shapes.lists(rest, scratch, visit);
            None::<()>
        });
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
                let at = last.map_or(0, |last| list.partition_point(|entry| *entry.order <= last));
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
            last = Some(*entry.order);
        }
    }

    fn insert(&mut self, key: &UriKey<'_>, entry: Entry<T>) {
        match (key.host, &key.pattern.kind) {
            (None, PatternKind::Segments(segments)) => self.more().shaped.insert(segments, entry),
            (None, _) => self.plain.insert(entry),
            (Some(host), _) => self.more().hosted.entry(host).insert(key.pattern, entry),
        }
    }

    fn more(&mut self) -> &mut More<T> {
        Arc::make_mut(self.more.get_or_insert_default())
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.more.is_none()
    }

    fn remove(&mut self, key: &UriKey<'_>, route: &Arc<T>, removed: &mut bool) {
        match (key.host, &key.pattern.kind) {
            (None, PatternKind::Segments(segments)) => {
                self.more().shaped.remove(segments, route, removed);
            }
            (None, _) => {
                self.plain.remove(route, removed);
            }
            (Some(host), _) => {
                self.more().hosted.edit(host, &mut |shapes| shapes.remove(key.pattern, route, removed));
            }
        }
        let empty = |more: &More<T>| more.shaped.is_empty() && more.hosted.is_empty();
        self.more = self.more.take().filter(|more| !empty(more));
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
        let list = heads.min_by_key(|list| *list[0].order)?;
        let (entry, rest) = list.split_first()?;
        *list = rest;
        // A route that two of its own host patterns lead to is asked once.
        if last.replace(*entry.order) == Some(*entry.order) {
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
    exact: Bucket<T>,
    prefix: Bucket<T>,
}

impl<T> Clone for Leaf<T> {
    fn clone(&self) -> Self {
        Leaf { exact: self.exact.clone(), prefix: self.prefix.clone() }
    }
}

impl<T> Default for Leaf<T> {
    fn default() -> Self {
        Leaf { exact: Bucket::default(), prefix: Bucket::default() }
    }
}

impl<T> Leaf<T> {
    fn bucket(&mut self, pattern: &Pattern) -> &mut Bucket<T> {
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
        let entry = Entry { route: route.clone(), pattern: checked, order: Arc::new(order) };
        self.tree.entry(&pattern.prefix).bucket(pattern).insert(key, entry);
    }

    /// Takes out the entries of `route` under `key`; `removed` becomes true if there were any.
    pub(crate) fn remove(&mut self, key: &UriKey<'_>, route: &Arc<T>, removed: &mut bool) {
        self.tree.edit(&key.pattern.prefix, &mut |leaf| {
            leaf.bucket(key.pattern).remove(key, route, removed);
            leaf.exact.is_empty() && leaf.prefix.is_empty()
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
            |leaf| !leaf.prefix.is_empty(),
            |leaf, depth, whole| {
                let bucket = if whole { &leaf.exact } else { &leaf.prefix };
                bucket.find(depth, query, accept)
            },
        )
    }
}
