//! What counts as failure and success of an endpoint, and how many of them take it out or bring it back.

use crate::upstream::NodeSpec;

/// The rules of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct HealthRules {}

impl HealthRules {
    /// Those of an upstream's checks, outlier detection and breaker, and of the node.
    pub fn new(_source: &config::Upstream, _spec: &NodeSpec) -> HealthRules {
        HealthRules {}
    }
}
