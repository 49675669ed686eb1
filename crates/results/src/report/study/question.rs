//! What two files asked of their models: only attacks of the same question compare models.

use super::run::{Outcome, Trial};
use crate::report::words;

/// Keys of a request that say how a model and its data are read.
const READING: [&str; 2] = ["interface", "reading"];

impl Trial {
    /// Whether the attack called `name` was asked for alike in both files: in one norm, with one goal, target, defence and box, with the same
    /// settings, along the directions of one metric if it takes any.
    pub fn asks_as(&self, other: &Self, name: &str) -> bool {
        let (Some(ours), Some(theirs)) = (self.attack(name), other.attack(name)) else { return false };
        let rest = |key: &&String| !READING.contains(&key.as_str());
        let keys = self.asked.keys().chain(other.asked.keys());
        self.norm == other.norm
            && keys.filter(rest).all(|key| self.asked.get(key) == other.asked.get(key))
            && ours.asked == theirs.asked
            // The settings hold the goal; a file without settings has only that of all its attacks.
            && (!ours.asked.is_empty() || self.goal == other.goal)
            && (!is_directed(ours) || (self.scale, &self.metric) == (other.scale, &other.metric))
    }

    /// Whether damage is minus the distance to a target: the largest is the nearest to 0, and it has no shares.
    pub fn is_towards(&self) -> bool {
        self.asked.contains_key("target")
    }
}

/// Whether an attack takes directions of a metric, by its name or its settings.
fn is_directed(outcome: &Outcome) -> bool {
    let name = outcome.name.as_str();
    words::direction(name).is_some()
        || name.starts_with("suite")
        || [name, outcome.asked.as_str()].iter().any(|text| text.contains("spectral"))
}
