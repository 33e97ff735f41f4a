//! A persistent radix tree over bytes: the one map under hosts, URIs and patterns.
//!
//! Persistent, because a plan is built from its predecessor: a clone is one pointer, and an edit
//! copies the nodes on its way (`Arc::make_mut`) and shares the rest. A hash map would be a little
//! faster for exact keys, but it can neither be shared that way nor say which prefixes of a key it holds.
//!
//! A node keeps its label, its value and its first four children inside itself: among 40,000
//! routes a lookup is as slow as the chain of cache misses on its way. Values are copied with their
//! nodes, so they must be cheap to clone. Depth is bounded by the callers' limits on key length, which also bounds
//! the recursion of `edit` and of dropping.

use std::sync::Arc;

/// Label bytes kept inside a node.
const LABEL_INLINE_MAX: usize = 22;
/// Children kept inside a node.
const FEW: usize = 4;
/// Children found by scanning; more get a table of 256.
const SOME: usize = 16;
/// Prefixes remembered on one walk down; a key with more of them is walked again for the rest.
const TRAIL_MAX: usize = 8;

/// The map. Nodes are shared between clones until they are edited.
pub(crate) struct Radix<V> {
    root: Option<Arc<Node<V>>>,
}

impl<V> Clone for Radix<V> {
    fn clone(&self) -> Self {
        Radix { root: self.root.clone() }
    }
}

impl<V> Default for Radix<V> {
    fn default() -> Self {
        Radix { root: None }
    }
}

struct Node<V> {
    label: Label,
    children: Children<V>,
    value: Option<V>,
}

impl<V: Clone> Clone for Node<V> {
    fn clone(&self) -> Self {
        Node { label: self.label.clone(), children: self.children.clone(), value: self.value.clone() }
    }
}

#[derive(Clone)]
enum Label {
    Inline(u8, [u8; LABEL_INLINE_MAX]),
    Heap(Box<[u8]>),
}

impl Label {
    fn new(bytes: &[u8]) -> Label {
        if bytes.len() > LABEL_INLINE_MAX {
            return Label::Heap(bytes.into());
        }
        let mut inline = [0; LABEL_INLINE_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        Label::Inline(bytes.len() as u8, inline)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Label::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Label::Heap(bytes) => bytes,
        }
    }
}

type Slot<V> = Option<Arc<Node<V>>>;

/// Children by the first byte of their labels. Slots are filled from the front.
enum Children<V> {
    Few([u8; FEW], [Slot<V>; FEW]),
    Some(Box<([u8; SOME], [Slot<V>; SOME])>),
    /// By byte.
    All(Box<[Slot<V>; 256]>),
}

impl<V> Clone for Children<V> {
    fn clone(&self) -> Self {
        match self {
            Children::Few(keys, slots) => Children::Few(*keys, slots.clone()),
            Children::Some(both) => Children::Some(both.clone()),
            Children::All(slots) => Children::All(slots.clone()),
        }
    }
}

impl<V> Default for Children<V> {
    fn default() -> Self {
        Children::Few([0; FEW], [const { None }; FEW])
    }
}

impl<V> Children<V> {
    /// The children of this list, which have different first bytes.
    fn of(list: Vec<Arc<Node<V>>>) -> Self {
        let count = list.len();
        let keyed = list.into_iter().map(|child| (child.label.bytes()[0], Some(child)));
        if count <= FEW {
            let (mut keys, mut slots) = ([0; FEW], [const { None }; FEW]);
            keyed.zip(keys.iter_mut().zip(&mut slots)).for_each(|(from, (key, slot))| (*key, *slot) = from);
            Children::Few(keys, slots)
        } else if count <= SOME {
            let mut both = Box::new(([0; SOME], [const { None }; SOME]));
            let (keys, slots) = &mut *both;
            keyed.zip(keys.iter_mut().zip(slots)).for_each(|(from, (key, slot))| (*key, *slot) = from);
            Children::Some(both)
        } else {
            let mut slots = Box::new([const { None }; 256]);
            keyed.for_each(|(key, child)| slots[usize::from(key)] = child);
            Children::All(slots)
        }
    }

    fn slots(&self) -> &[Slot<V>] {
        match self {
            Children::Few(_, slots) => slots,
            Children::Some(both) => &both.1,
            Children::All(slots) => &**slots,
        }
    }

    fn slots_mut(&mut self) -> &mut [Slot<V>] {
        match self {
            Children::Few(_, slots) => slots,
            Children::Some(both) => &mut both.1,
            Children::All(slots) => &mut **slots,
        }
    }

    /// Where the child of this first byte is, or would be found empty.
    fn position(&self, byte: u8) -> Option<usize> {
        match self {
            Children::Few(keys, _) => keys.iter().position(|key| *key == byte),
            Children::Some(both) => both.0.iter().position(|key| *key == byte),
            Children::All(_) => Some(usize::from(byte)),
        }
    }

    // A byte 0 that is sought is found at its own slot: those left empty, with key 0, come after it.
    fn get(&self, byte: u8) -> Option<&Arc<Node<V>>> {
        self.slots()[self.position(byte)?].as_ref()
    }

    fn get_mut(&mut self, byte: u8) -> Option<&mut Arc<Node<V>>> {
        let at = self.position(byte)?;
        self.slots_mut()[at].as_mut()
    }

    fn is_empty(&self) -> bool {
        self.slots().iter().all(Option::is_none)
    }

    fn take_all(&mut self) -> Vec<Arc<Node<V>>> {
        std::mem::take(self).slots_mut().iter_mut().filter_map(Option::take).collect()
    }

    fn add(&mut self, child: Arc<Node<V>>) {
        let mut list = self.take_all();
        list.push(child);
        *self = Children::of(list);
    }

    fn remove(&mut self, byte: u8) {
        let mut list = self.take_all();
        list.retain(|child| child.label.bytes()[0] != byte);
        *self = Children::of(list);
    }

    /// Takes out the child if there is just one.
    fn take_only(&mut self) -> Option<Arc<Node<V>>> {
        let Children::Few(_, [first, None, None, None]) = self else { return None };
        first.take()
    }
}

impl<V> Node<V> {
    fn leaf(label: &[u8]) -> Self {
        Node { label: Label::new(label), children: Children::default(), value: None }
    }

    /// Cuts the label at `at`: what followed becomes the only child.
    fn split(&mut self, at: usize) {
        let rest = Label::new(&self.label.bytes()[at..]);
        let mut upper = Node::leaf(&self.label.bytes()[..at]);
        std::mem::swap(self, &mut upper);
        upper.label = rest;
        self.children.add(Arc::new(upper));
    }

    fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.is_empty()
    }
}

impl<V: Clone> Node<V> {
    /// A node without a value and with one child is that child under a longer label.
    fn merge(&mut self) {
        if self.value.is_some() {
            return;
        }
        let Some(child) = self.children.take_only() else { return };
        let label = [self.label.bytes(), child.label.bytes()].concat();
        *self = Arc::try_unwrap(child).unwrap_or_else(|shared| (*shared).clone());
        self.label = Label::new(&label);
    }
}

impl<V> Radix<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value at exactly `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        let mut rest = key;
        loop {
            rest = rest.strip_prefix(node.label.bytes())?;
            let Some(&first) = rest.first() else { return node.value.as_ref() };
            node = node.children.get(first)?;
        }
    }

    /// Shows `visit` the value at `key` (`whole` is true), then those at its prefixes for which
    /// `marked` holds, the longest first (`key` itself is one of its prefixes), until it gives something.
    ///
    /// `visit` takes the value, the prefix's length in bytes, and `whole`.
    pub(crate) fn search<'t, R>(
        &'t self,
        key: &[u8],
        marked: impl Fn(&V) -> bool,
        mut visit: impl FnMut(&'t V, usize, bool) -> Option<R>,
    ) -> Option<R> {
        let mut trail = self.trail(key, &marked, usize::MAX);
        if let Some(found) = trail.whole.and_then(|value| visit(value, key.len(), true)) {
            return Some(found);
        }
        loop {
            let first = trail.count.saturating_sub(TRAIL_MAX);
            for number in (first..trail.count).rev() {
                let (value, depth) = trail.marks[number % TRAIL_MAX]?;
                if let Some(found) = visit(value, depth, false) {
                    return Some(found);
                }
            }
            if first == 0 {
                return None;
            }
            trail = self.trail(key, &marked, first);
        }
    }

    /// Walks down along `key` and keeps the last marks among the first `limit`.
    #[inline]
    fn trail<'t>(&'t self, key: &[u8], marked: &impl Fn(&V) -> bool, limit: usize) -> Trail<'t, V> {
        let mut trail = Trail { marks: [None; TRAIL_MAX], count: 0, whole: None };
        let Some(mut node) = self.root.as_deref() else { return trail };
        let mut rest = key;
        while let Some(after) = rest.strip_prefix(node.label.bytes()) {
            rest = after;
            if let Some(value) = node.value.as_ref() {
                if marked(value) {
                    if trail.count == limit {
                        break;
                    }
                    trail.marks[trail.count % TRAIL_MAX] = Some((value, key.len() - rest.len()));
                    trail.count += 1;
                }
            }
            let Some(&first) = rest.first() else {
                trail.whole = node.value.as_ref();
                break;
            };
            let Some(child) = node.children.get(first) else { break };
            node = child;
        }
        trail
    }

    /// Every value, in no particular order. For counting in tests.
    #[cfg(test)]
    pub(crate) fn node_count(&self) -> usize {
        fn count<V>(node: &Node<V>) -> usize {
            1 + node.children.slots().iter().flatten().map(|child| count(child)).sum::<usize>()
        }
        self.root.as_deref().map_or(0, count)
    }
}

struct Trail<'t, V> {
    marks: [Option<(&'t V, usize)>; TRAIL_MAX],
    /// Marks met; the last `TRAIL_MAX` of them are in `marks`, mark `n` at `n % TRAIL_MAX`.
    count: usize,
    whole: Option<&'t V>,
}

impl<V: Clone + Default> Radix<V> {
    /// The value at `key` for editing, a default one if there was none. Copies what is shared on the way.
    pub(crate) fn entry(&mut self, key: &[u8]) -> &mut V {
        let mut rest = key;
        let mut slot = self.root.get_or_insert_with(|| Arc::new(Node::leaf(key)));
        loop {
            let common = common_bytes(slot.label.bytes(), rest);
            let node = Arc::make_mut(slot);
            if common < node.label.bytes().len() {
                node.split(common);
            }
            rest = &rest[common..];
            let Some(&first) = rest.first() else {
                return node.value.get_or_insert_default();
            };
            if node.children.get(first).is_none() {
                node.children.add(Arc::new(Node::leaf(rest)));
            }
            slot = node.children.get_mut(first).expect("it was there or was added");
        }
    }

    /// Edits the value at `key` if there is one; drops it when `edit` says that nothing is left in it.
    pub(crate) fn edit(&mut self, key: &[u8], edit: &mut dyn FnMut(&mut V) -> bool) {
        if self.get(key).is_none() {
            return;
        }
        let root = self.root.as_mut().expect("a key was found");
        edit_below(root, key, edit);
        if root.is_empty() {
            self.root = None;
        }
    }
}

/// `key` is known to lead to a value from here on.
fn edit_below<V: Clone>(slot: &mut Arc<Node<V>>, key: &[u8], edit: &mut dyn FnMut(&mut V) -> bool) {
    let node = Arc::make_mut(slot);
    let rest = &key[node.label.bytes().len()..];
    if let Some(&first) = rest.first() {
        let child = node.children.get_mut(first).expect("the key leads to a value");
        edit_below(child, rest, edit);
        if child.is_empty() {
            node.children.remove(first);
        }
    } else if edit(node.value.as_mut().expect("the key leads to a value")) {
        node.value = None;
    }
    node.merge();
}

fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::Random;
    use std::collections::BTreeMap;

    fn word(random: &mut Random) -> Vec<u8> {
        let letters = if random.below(8) == 0 { 200 } else { 3 };
        let length = random.below(40);
        (0..length).map(|_| random.below(letters) as u8).collect()
    }

    fn prefixes(tree: &Radix<u32>, key: &[u8]) -> Vec<(u32, usize, bool)> {
        let mut seen = Vec::new();
        let mut visit = |value: &u32, depth, whole| {
            seen.push((*value, depth, whole));
            None::<()>
        };
        tree.search(key, |_| true, &mut visit);
        seen
    }

    fn naive(map: &BTreeMap<Vec<u8>, u32>, key: &[u8]) -> Vec<(u32, usize, bool)> {
        let whole = map.get(key).map(|value| (*value, key.len(), true));
        let below = (0..=key.len()).rev();
        whole
            .into_iter()
            .chain(below.filter_map(|end| map.get(&key[..end]).map(|value| (*value, end, false))))
            .collect()
    }

    #[test]
    fn like_a_sorted_map() {
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let mut tree: Radix<u32> = Radix::default();
            let mut map = BTreeMap::new();
            for step in 0..300 {
                let key = word(&mut random);
                if random.below(3) == 0 {
                    let victim = map.keys().nth(random.below(map.len().max(1))).cloned().unwrap_or(key);
                    tree.edit(&victim, &mut |_| true);
                    map.remove(&victim);
                } else {
                    let key = key.repeat(1 + random.below(3));
                    *tree.entry(&key) = step;
                    map.insert(key, step);
                }
            }
            for _ in 0..200 {
                let key = word(&mut random).repeat(2);
                assert_eq!(prefixes(&tree, &key), naive(&map, &key), "seed {seed} key {key:?}");
            }
            for (key, value) in &map {
                assert_eq!(tree.get(key), Some(value), "seed {seed}");
            }
            for key in map.keys() {
                tree.edit(key, &mut |_| true);
            }
            assert!(tree.is_empty(), "seed {seed}: {} nodes left", tree.node_count());
        }
    }

    #[test]
    fn more_prefixes_than_one_walk_keeps() {
        let mut tree: Radix<u32> = Radix::default();
        for length in 0..100 {
            *tree.entry(&vec![b'a'; length]) = length as u32;
        }
        let seen = prefixes(&tree, &[b'a'; 99]);
        let prefixes = (0..100).rev().map(|n| (n as u32, n, false));
        let expected: Vec<_> = std::iter::once((99, 99, true)).chain(prefixes).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_older_clone_stays() {
        let mut tree: Radix<u32> = Radix::default();
        *tree.entry(b"/users/1") = 1;
        let older = tree.clone();
        *tree.entry(b"/users/1") = 2;
        *tree.entry(b"/users/") = 3;
        assert_eq!((older.get(b"/users/1"), older.get(b"/users/")), (Some(&1), None));
        tree.edit(b"/users/1", &mut |_| true);
        assert_eq!((older.get(b"/users/1"), tree.get(b"/users/1")), (Some(&1), None));
        let restored = tree.node_count();
        *tree.entry(b"/users/9/x") = 4;
        tree.edit(b"/users/9/x", &mut |_| true);
        assert_eq!(tree.node_count(), restored);
    }
}
