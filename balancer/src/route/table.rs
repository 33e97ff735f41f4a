//! All routes of a plan, in the order of its router mode.
//!
//! `radixtree_host_uri` asks the host first (exact, then the longer wildcard), inside a host the
//! URI, and where no route of that host takes the request, the next less specific host; last come
//! the routes without a host. So a host's `/*` goes before a host-less exact path. In the two other
//! modes the URI decides first and the host is one condition among others.
//!
//! The table is persistent: a clone is O(1) and an edit copies only the way to it, so that the next
//! plan shares with this one what did not change. A lookup reads shared memory and writes only to
//! the caller's `Params`.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use config::RouterMode;

use super::entry::{Accept, Order, Query};
use super::host::{reverse, HostPattern, Hosts};
use super::params::Params;
use super::path::{UriKey, Uris};
use super::pattern::{Pattern, URI_BYTES_MAX};
use super::place;

/// By what a route is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteKey {
    /// Host patterns: `a.com`, `*.a.com`, either with `:port`. None: every host.
    pub hosts: Vec<String>,
    /// URI patterns: `/exact`, `/prefix/*`; with parameters `/user/:id`, `/files/*rest`. At least one.
    pub uris: Vec<String>,
    /// Higher goes first among the routes of one prefix.
    pub priority: i64,
}

/// Why a key was refused. Nothing of it was inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The key has no URI pattern.
    NoUri,
    /// A URI pattern is the empty string.
    EmptyUri,
    /// A URI pattern is longer than 4096 bytes.
    UriTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A `*` neither begins a segment nor ends the pattern.
    StarInside {
        /// The pattern.
        uri: String,
    },
    /// A `:` without a name after it.
    EmptyName {
        /// The pattern.
        uri: String,
    },
    /// A host pattern that no host can match.
    BadHost {
        /// The pattern.
        host: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::NoUri => f.write_str("the route has no uri"),
            RouteError::EmptyUri => f.write_str("a uri is empty"),
            RouteError::UriTooLong { bytes } => {
                write!(f, "a uri has {bytes} bytes, more than {URI_BYTES_MAX}")
            }
            RouteError::StarInside { uri } => {
                write!(f, "`{uri}`: a `*` stands at the end or begins a segment, as in `/a/*/b`")
            }
            RouteError::EmptyName { uri } => write!(f, "`{uri}`: a parameter has no name"),
            RouteError::BadHost { host, what } => write!(f, "the host `{host}` {what}"),
        }
    }
}

impl std::error::Error for RouteError {}

/// The routes. `T` is whatever the caller keeps of a route.
pub struct Table<T> {
    mode: RouterMode,
    /// By host, where the host comes first.
    hosts: Hosts<Uris<T>>,
    /// Those without a host; in the other modes, all.
    uris: Uris<T>,
    routes: usize,
    /// Patterns inserted so far.
    inserted: u64,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Table { hosts: self.hosts.clone(), uris: self.uris.clone(), ..*self }
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("mode", &self.mode)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

/// A key, checked.
struct Checked {
    hosts: Vec<HostPattern>,
    patterns: Vec<Arc<Pattern>>,
}

impl<T> Table<T> {
    /// A table without routes.
    pub fn new(mode: RouterMode) -> Self {
        Table { mode, hosts: Hosts::default(), uris: Uris::default(), routes: 0, inserted: 0 }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// Adds a route behind those of equal rank. One `Arc` stands under one key only.
    ///
    /// # Errors
    ///
    /// A pattern of the key is wrong; the table is then as it was.
    pub fn insert(&mut self, key: &RouteKey, value: Arc<T>) -> Result<(), RouteError> {
        self.insert_at(key, (self.inserted + 1).saturating_mul(place::GAP), value)
    }

    /// Adds a route at a place: among routes of one prefix, one priority and one length of pattern, the
    /// lower place is tried first. For a table that is edited step by step but must equal one built
    /// from the whole document; [`place::assign`] gives the places. `insert` counts them up.
    ///
    /// # Errors
    ///
    /// A pattern of the key is wrong; the table is then as it was.
    pub fn insert_at(&mut self, key: &RouteKey, place: u64, value: Arc<T>) -> Result<(), RouteError> {
        let checked = self.check(key)?;
        for pattern in &checked.patterns {
            self.inserted += 1;
            let order = Order {
                priority: Reverse(key.priority),
                length: Reverse(pattern.length),
                place,
                number: self.inserted,
            };
            self.each_tree(pattern, &checked.hosts, |uris, at| {
                uris.insert(at, &value, order);
                false
            });
        }
        self.routes += 1;
        Ok(())
    }

    /// Takes out the route that was inserted as `same` under `key`; without one, does nothing.
    pub fn remove(&mut self, key: &RouteKey, same: &Arc<T>) {
        let Ok(checked) = self.check(key) else { return };
        let mut removed = false;
        for pattern in &checked.patterns {
            self.each_tree_known(pattern, &checked.hosts, |uris, at| {
                uris.remove(at, same, &mut removed);
                uris.is_empty()
            });
        }
        self.routes -= usize::from(removed);
    }

    /// Whether no node is left; for tests of removal.
    #[cfg(test)]
    pub(crate) fn holds_nothing(&self) -> bool {
        self.hosts.is_empty() && self.uris.is_empty()
    }

    fn check(&self, key: &RouteKey) -> Result<Checked, RouteError> {
        if key.uris.is_empty() {
            return Err(RouteError::NoUri);
        }
        let params = self.mode == RouterMode::UriWithParameter;
        let patterns = key.uris.iter().map(|uri| Pattern::parse(uri, params).map(Arc::new));
        let hosts = key.hosts.iter().map(|host| HostPattern::parse(host));
        Ok(Checked { patterns: patterns.collect::<Result<_, _>>()?, hosts: hosts.collect::<Result<_, _>>()? })
    }

    /// Shows `edit` each tree that holds, or shall hold, `pattern` for `hosts`.
    fn each_tree(
        &mut self,
        pattern: &Arc<Pattern>,
        hosts: &[HostPattern],
        mut edit: impl FnMut(&mut Uris<T>, &UriKey<'_>) -> bool,
    ) {
        let plain = UriKey { pattern, host: None };
        if hosts.is_empty() {
            edit(&mut self.uris, &plain);
        }
        for host in hosts {
            match self.mode {
                RouterMode::HostUri => edit(self.hosts.entry(host), &plain),
                _ => edit(&mut self.uris, &UriKey { pattern, host: Some(host) }),
            };
        }
    }

    /// As `each_tree`, but makes none; one for which `edit` gives true is dropped.
    fn each_tree_known(
        &mut self,
        pattern: &Arc<Pattern>,
        hosts: &[HostPattern],
        mut edit: impl FnMut(&mut Uris<T>, &UriKey<'_>) -> bool,
    ) {
        let plain = UriKey { pattern, host: None };
        if hosts.is_empty() {
            edit(&mut self.uris, &plain);
        }
        for host in hosts {
            match self.mode {
                RouterMode::HostUri => self.hosts.edit(host, &mut |uris| edit(uris, &plain)),
                _ => {
                    edit(&mut self.uris, &UriKey { pattern, host: Some(host) });
                }
            }
        }
    }

    /// The first route, in the mode's order, that `accept` takes.
    ///
    /// `host` is lower-cased and without its port; `path` is normalised, without the query. `accept`
    /// looks at what the table does not know (methods, addresses, variables); false means the
    /// next candidate. It sees the candidate's parameters, and `params` holds those of the route
    /// found; they are empty when none is. Allocates nothing once `params` is warm.
    pub fn find<'t>(
        &'t self,
        host: &[u8],
        port: u16,
        path: &[u8],
        params: &mut Params,
        accept: &mut dyn FnMut(&'t Arc<T>, &Params) -> bool,
    ) -> Option<&'t Arc<T>> {
        let mut scratch = std::mem::take(&mut params.scratch);
        let mut reversed = std::mem::take(&mut scratch.host);
        reverse(host, &mut reversed);
        let mut query = Query { host: &reversed, port, path, params, scratch: &mut scratch };
        let found = self.find_query(&mut query, accept);
        if found.is_none() {
            params.clear();
        }
        scratch.host = reversed;
        params.scratch = scratch;
        found
    }

    fn find_query<'t>(&'t self, query: &mut Query<'_>, accept: &mut Accept<'_, 't, T>) -> Option<&'t Arc<T>> {
        let (host, port) = (query.host, query.port);
        self.hosts
            .search(host, port, |uris| uris.find(query, accept))
            .or_else(|| self.uris.find(query, accept))
    }
}
