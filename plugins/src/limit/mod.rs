//! Counters that are exact over all cores.
/// State shared by all cores.
#[derive(Clone, Default)]
pub struct SharedState;
