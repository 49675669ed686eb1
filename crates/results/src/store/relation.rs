//! The relations of a sweep, and their places in its file (docs/formats.md, "Relations").

use std::fmt;

/// A quantity that every model of a sweep has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// The weight of the KL term.
    Beta,
    /// A score, by its name in the file.
    Score(String),
    /// A measure of an attack's damage.
    Damage {
        /// The key of the set of attacks; empty for the main one.
        set: String,
        /// The attack, by its name in the file.
        attack: String,
        /// The measure.
        measure: String,
    },
}

impl Quantity {
    /// Its path in the file: `/beta`, `/scores/trace`, `/attack/u1/recon_mse`, `/further/unit/attack/pgd/recon_mse`.
    pub fn path(&self) -> String {
        match self {
            Self::Beta => "/beta".to_owned(),
            Self::Score(name) => format!("/scores/{name}"),
            Self::Damage { set, attack, measure } => format!("{}/{attack}/{measure}", attacks(set)),
        }
    }

    /// The quantity at such a path.
    pub fn at(path: &str) -> Option<Self> {
        let damage = |set: &str, attack: &str, measure: &str| Self::Damage {
            set: set.to_owned(),
            attack: attack.to_owned(),
            measure: measure.to_owned(),
        };
        match path.strip_prefix('/')?.split('/').collect::<Vec<_>>()[..] {
            ["beta"] => Some(Self::Beta),
            ["scores", name] => Some(Self::Score(name.to_owned())),
            ["attack", attack, measure] => Some(damage("", attack, measure)),
            ["further", set, "attack", attack, measure] => Some(damage(set, attack, measure)),
            _ => None,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beta => f.write_str("beta"),
            Self::Score(name) => f.write_str(name),
            Self::Damage { set, attack, measure } if set.is_empty() => write!(f, "{measure} by {attack}"),
            Self::Damage { set, attack, measure } => write!(f, "{measure} by {attack} ({set})"),
        }
    }
}

/// The group of a set's attacks: of the main set, whose key is empty, or of a further one.
pub fn attacks(set: &str) -> String {
    if set.is_empty() { "/attack".to_owned() } else { format!("/further/{set}/attack") }
}

/// The models of a relation, and the quantities that it relates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `all`, `plain` (without mixup) or `mixup`; `None` if the group's name says it.
    pub models: Option<String>,
    /// Beta or a score; `None` for a change by mixup.
    pub of: Option<Quantity>,
    /// A score or damage.
    pub with: Quantity,
}

impl Relation {
    /// Its name below its group: `all/beta/scores/trace`, `trace/attack/u1/recon_mse`, `scores/trace`.
    pub fn name(&self) -> String {
        let of = self.of.as_ref().map(|of| match of {
            Quantity::Score(name) => name.clone(),
            other => other.path().trim_start_matches('/').to_owned(),
        });
        let lead: String = [self.models.clone(), of].into_iter().flatten().map(|part| part + "/").collect();
        format!("{lead}{}", self.with.path().trim_start_matches('/'))
    }

    /// The relation with such a name.
    pub fn named(name: &str) -> Option<Self> {
        let of = |name: &str| if name == "beta" { Quantity::Beta } else { Quantity::Score(name.to_owned()) };
        let parts: Vec<&str> = name.split('/').collect();
        let at = parts.iter().position(|part| ["scores", "attack", "further"].contains(part))?;
        let with = Quantity::at(&format!("/{}", parts[at..].join("/")))?;
        match parts[..at] {
            [] => Some(Self { models: None, of: None, with }),
            [score] => Some(Self { models: None, of: Some(of(score)), with }),
            [models, score] => Some(Self { models: Some(models.to_owned()), of: Some(of(score)), with }),
            _ => None,
        }
    }
}

/// The direction along which the attack `name` steps, among the `names` of its file or set: k for `u<k>`, and 1 for `spectral` if that has
/// only one direction (with several it is the worst of them, and each has its own name).
pub fn direction<S: AsRef<str>>(name: &str, names: &[S]) -> Option<usize> {
    let alone = || !names.iter().any(|other| other.as_ref() == "u1");
    match name.strip_prefix('u').and_then(|k| k.parse().ok()) {
        Some(k) => Some(k),
        None if name == "spectral" && alone() => Some(1),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_read_back() {
        let score = Quantity::Score("output.trace".to_owned());
        let damage = |set: &str| Quantity::Damage {
            set: set.to_owned(),
            attack: "spectral-iterated".to_owned(),
            measure: "recon_mse".to_owned(),
        };
        for quantity in [Quantity::Beta, score.clone(), damage(""), damage("half-step")] {
            assert_eq!(Quantity::at(&quantity.path()), Some(quantity));
        }
        for (models, of) in [(Some("all"), Some(Quantity::Beta)), (None, Some(score)), (None, None)] {
            for with in [damage(""), damage("half-step"), Quantity::Score("trace".to_owned())] {
                let relation = Relation { models: models.map(str::to_owned), of: of.clone(), with };
                assert_eq!(Relation::named(&relation.name()), Some(relation));
            }
        }
        for other in ["", "root", "all.beta.trace", "a/b/c/scores/trace", "all/beta/attack/u1", "scores"] {
            assert_eq!(Relation::named(other), None, "{other}");
        }
    }

    #[test]
    fn one_direction_is_the_first() {
        assert_eq!(direction("spectral", &["pgd", "spectral"]), Some(1));
        assert_eq!(direction("spectral", &["spectral", "u1", "u2"]), None);
        assert_eq!((direction("u2", &["u1", "u2"]), direction("random", &["u1"])), (Some(2), None));
    }
}
