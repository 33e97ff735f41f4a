//! Counters and breakers that are exact over all cores.
//!
//! Made by control once and handed to every plan: what was counted survives a
//! reload. Each belongs to the resource (or the group) that limits and to a
//! digest of its settings, so an unchanged entry goes on counting where it was and
//! a changed one begins anew, without anyone telling which entries changed.
//!
//! Which key a request has is the plugin's; how windows follow one another is
//! `window`'s, when a breaker opens is `breaker`'s; who is forgotten when there are
//! too many is `table`'s.

mod breaker;
mod table;
mod window;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use config::{Kind, Value};

use breaker::Breaker;
pub use breaker::BreakerRule;
use table::Table;
use window::Counter;
pub use window::{Decision, Quota, Window};

/// Counters at most, over all plugins and keys; beyond it expired ones go, then
/// those that were asked for longest ago. At about 100 bytes each, 50 MiB.
pub const KEYS_MAX: usize = 1 << 19;
/// Breakers at most, of paths that failed of late; beyond it those go first whose
/// longest rest is over, then those that failed longest ago. 6 MiB.
pub const BREAKERS_MAX: usize = 1 << 16;

/// State of plugins that outlives a plan and is one for all cores. A clone is the
/// same state.
#[derive(Clone)]
pub struct SharedState(Arc<Shared>);

struct Shared {
    counters: Table<Counter>,
    breakers: Table<Breaker>,
    secrets: [RandomState; 2],
}

/// Whose counters: one limit of one resource, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u128);

/// What has a breaker of its own.
#[derive(Clone, Copy, Debug)]
pub struct BreakerPath<'a> {
    /// Whose entry.
    pub owner: Owner,
    /// The request's host.
    pub host: &'a [u8],
    /// The request's path, decoded.
    pub uri: &'a [u8],
}

impl SharedState {
    /// No counters yet. One per process: a second one counts apart.
    pub fn new() -> SharedState {
        let secrets = [RandomState::new(), RandomState::new()];
        let (counters, breakers) = (Table::new(KEYS_MAX), Table::new(BREAKERS_MAX));
        SharedState(Arc::new(Shared { counters, breakers, secrets }))
    }

    /// The owner of counters: `name` is the resource or group, `settings` what was
    /// written there (the order of keys is none of its meaning), `part` tells the
    /// limits of one plugin apart.
    pub fn owner(&self, name: &str, settings: &Value, part: usize) -> Owner {
        Owner(self.0.fingerprint(|hasher| {
            name.hash(hasher);
            part.hash(hasher);
            digest(settings, hasher);
        }))
    }

    /// Counts one request of `key` at `now_millis` (since the epoch) against
    /// `quota`. Allocates only for a key that is new.
    pub fn take(&self, owner: Owner, key: &[u8], now_millis: u64, quota: &Quota) -> Decision {
        let key = self.0.fingerprint(|hasher| {
            hasher.write_u128(owner.0);
            hasher.write(key);
        });
        let take =
            |counter: &mut Counter| (counter.take(now_millis, quota), counter.expires_millis(quota.window));
        self.0.counters.change(key, now_millis, take)
    }

    /// Whether the breaker of `path` lets no request pass at `now_millis`.
    ///
    /// Takes no lock while nothing fails anywhere.
    pub fn breaker_is_open(&self, path: &BreakerPath<'_>, now_millis: u64, rule: &BreakerRule) -> bool {
        if self.0.breakers.len() == 0 {
            return false;
        }
        let key = self.0.breaker_key(path);
        self.0.breakers.look(key, |breaker| breaker.is_open(now_millis, rule)).unwrap_or(false)
    }

    /// Counts an outcome, unhealthy or healthy, for the breaker of `path`.
    ///
    /// Only an unhealthy one makes a breaker; one that is healthy again is forgotten.
    pub fn breaker_counts(&self, path: &BreakerPath<'_>, now_millis: u64, rule: &BreakerRule, healthy: bool) {
        if healthy && self.0.breakers.len() == 0 {
            return;
        }
        let key = self.0.breaker_key(path);
        if healthy {
            return self.0.breakers.change_or_forget(key, |breaker| !breaker.succeeds(now_millis, rule));
        }
        let fail = |breaker: &mut Breaker| {
            breaker.fails(now_millis, rule);
            ((), now_millis.saturating_add(rule.open_max_millis))
        };
        self.0.breakers.change(key, now_millis, fail);
    }

    /// How many counters are held, expired ones that nobody displaced among them.
    pub fn counters(&self) -> usize {
        self.0.counters.len()
    }

    /// How many breakers are held: of paths that failed and are not healthy again.
    pub fn breakers(&self) -> usize {
        self.0.breakers.len()
    }
}

impl Default for SharedState {
    fn default() -> SharedState {
        SharedState::new()
    }
}

impl Shared {
    fn breaker_key(&self, path: &BreakerPath<'_>) -> u128 {
        self.fingerprint(|hasher| {
            hasher.write_u128(path.owner.0);
            // With their lengths, so that no host and path can be cut in another way.
            path.host.hash(hasher);
            path.uri.hash(hasher);
        })
    }

    fn fingerprint(&self, feed: impl Fn(&mut std::hash::DefaultHasher)) -> u128 {
        let [high, low] = &self.secrets;
        let half = |secret: &RandomState| {
            let mut hasher = secret.build_hasher();
            feed(&mut hasher);
            u128::from(hasher.finish())
        };
        half(high) << 64 | half(low)
    }
}

/// Feeds what `value` means: not its places and not the order of a table's keys.
fn digest(value: &Value, hasher: &mut impl Hasher) {
    std::mem::discriminant(&value.kind).hash(hasher);
    match &value.kind {
        Kind::Null => {}
        Kind::Bool(flag) => flag.hash(hasher),
        Kind::Integer(number) => number.hash(hasher),
        Kind::Float(number) => number.to_bits().hash(hasher),
        Kind::String(text) => text.hash(hasher),
        Kind::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| digest(item, hasher));
        }
        Kind::Table(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(key, value)| (&key.name, value)).collect();
            fields.sort_by_key(|(name, _)| *name);
            fields.len().hash(hasher);
            for (name, value) in fields {
                name.hash(hasher);
                digest(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_is_its_name_settings_and_part() {
        let shared = SharedState::new();
        let owner = |name, settings: serde_json::Value, part| shared.owner(name, &settings.into(), part);
        let first = owner("route:a", json!({"count": 1, "key": "x"}), 0);
        assert_eq!(first, owner("route:a", json!({"key": "x", "count": 1}), 0));
        assert_ne!(first, owner("route:b", json!({"count": 1, "key": "x"}), 0));
        assert_ne!(first, owner("route:a", json!({"count": 2, "key": "x"}), 0));
        assert_ne!(first, owner("route:a", json!({"count": "1", "key": "x"}), 0));
        assert_ne!(first, owner("route:a", json!({"count": 1, "key": "x"}), 1));
        assert_ne!(owner("a", json!([[1], 2]), 0), owner("a", json!([[1, 2]]), 0));
    }

    #[test]
    fn a_breaker_is_its_owner_host_and_uri() {
        let shared = SharedState::new();
        let owner = |name| shared.owner(name, &json!({}).into(), 0);
        let rule = BreakerRule { failures: 1, successes: 1, open_max_millis: 3_000 };
        let path = |name, host: &'static str, uri: &'static str| BreakerPath {
            owner: owner(name),
            host: host.as_bytes(),
            uri: uri.as_bytes(),
        };
        let is_open = |name, host, uri, now| shared.breaker_is_open(&path(name, host, uri), now, &rule);
        let counts = |host, uri, now, healthy| {
            shared.breaker_counts(&path("a", host, uri), now, &rule, healthy);
        };
        counts("h", "/x", 1_000, true);
        assert_eq!(shared.breakers(), 0);
        counts("h", "/x", 1_000, false);
        assert_eq!(shared.breakers(), 1);
        assert!(is_open("a", "h", "/x", 2_999));
        assert!(!is_open("a", "h", "/x", 3_000));
        assert!(!is_open("b", "h", "/x", 2_000));
        assert!(!is_open("a", "h/", "x", 2_000));
        assert!(!is_open("a", "h", "/y", 2_000));
        counts("h", "/x", 3_000, true);
        assert_eq!(shared.breakers(), 0);
    }

    #[test]
    fn exactly_the_limit_passes_over_all_threads() {
        let shared = SharedState::new();
        let owner = shared.owner("route:a", &json!({}).into(), 0);
        let quota = Quota { limit: 1000, window_millis: 60_000, window: Window::Fixed };
        let passed = || (0..500).filter(|_| shared.take(owner, b"10.0.0.1", 5, &quota).allowed).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(passed)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it counts")).sum()
        });
        assert_eq!(total, 1000);
        assert_eq!(shared.counters(), 1);
    }
}
