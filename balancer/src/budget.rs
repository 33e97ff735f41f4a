//! How many further tries an upstream's requests may have, so that retries do not multiply an outage.

/// The retry budget of one upstream on one worker.
#[derive(Clone, Debug)]
pub struct Budget {
    _share: Option<f64>,
}

impl Budget {
    /// A budget of this share of requests; `None` is without bound.
    pub fn new(share: Option<f64>) -> Budget {
        Budget { _share: share }
    }

    /// A request begins.
    pub fn request_begins(&mut self, _now: u64) {}

    /// A request ends.
    pub fn request_ends(&mut self) {}

    /// Takes a further try, if there is one.
    pub fn retry_begins(&mut self, _now: u64) -> bool {
        true
    }

    /// A further try has ended.
    pub fn retry_ends(&mut self) {}
}
