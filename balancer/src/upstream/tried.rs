//! Which endpoints were tried for one request.

/// The endpoints that were tried for one request: a bit set, without memory of its own up to 128.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    first: u128,
    more: Vec<usize>,
}

impl Tried {
    /// Nothing was tried.
    pub fn new() -> Tried {
        Tried::default()
    }

    /// Notes an endpoint.
    pub fn add(&mut self, index: usize) {
        if index < 128 {
            self.first |= 1 << index;
        } else if !self.more.contains(&index) {
            self.more.push(index);
        }
    }

    /// Whether an endpoint was tried.
    pub fn contains(&self, index: usize) -> bool {
        if index < 128 {
            self.first >> index & 1 == 1
        } else {
            self.more.contains(&index)
        }
    }

    /// How many were tried.
    pub fn len(&self) -> usize {
        self.first.count_ones() as usize + self.more.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.more.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.first = 0;
        self.more.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried() {
        let mut tried = Tried::new();
        for index in [0, 5, 127, 128, 900, 900, 5] {
            tried.add(index);
        }
        assert_eq!(tried.len(), 5);
        assert!([0, 5, 127, 128, 900].into_iter().all(|index| tried.contains(index)));
        assert!(![1, 129, 899].into_iter().any(|index| tried.contains(index)));
        tried.clear();
        assert!(tried.is_empty() && !tried.contains(128));
    }
}
