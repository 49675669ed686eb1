//! Attacks as the user chooses them: names on the command line, tagged maps in the YAML.

use super::pgd::{Pgd, PgdSpec, Start};
use super::random::{Random, RandomSpec};
use super::spectral::{Scale, SpectralSpec};
use super::{Attack, Goal, Norm};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;
use strum::IntoEnumIterator;

/// One attack with its settings: `{kind: pgd, steps: 40}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::EnumIter, strum::IntoStaticStr)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum AttackSpec {
    /// Along the eigenvectors of the metric.
    Spectral(SpectralSpec),
    /// Along random directions.
    Random(RandomSpec),
    /// Projected gradient ascent.
    Pgd(PgdSpec),
}

/// What the command line sets on every attack that has the setting; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--goal`.
    pub goal: Option<Goal>,
    /// `--steps`.
    pub steps: Option<usize>,
    /// `--scale`.
    pub scale: Option<Scale>,
    /// `--top`.
    pub top: Option<usize>,
}

impl FromStr for AttackSpec {
    type Err = Error;

    /// An attack by name, with its default settings.
    fn from_str(name: &str) -> Result<Self> {
        Self::iter()
            .find(|spec| spec.name() == name)
            .ok_or_else(|| Error::request("attack", crate::error::one_of(Self::iter().map(|spec| spec.name())), name))
    }
}

impl AttackSpec {
    /// Its name, as in the YAML, on the command line and in result files.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Names of all its results, in the order in which [`super::run`] gives them: its own first; a spectral attack on
    /// K > 1 directions also reports each direction as `u1` to `uK`.
    pub fn results(&self) -> Vec<String> {
        let own = [self.name().to_owned()];
        match self {
            Self::Spectral(s) if s.top > 1 => own.into_iter().chain((1..=s.top).map(|i| format!("u{i}"))).collect(),
            _ => own.into(),
        }
    }

    /// What it drives up.
    pub fn goal(&self) -> Goal {
        match self {
            Self::Spectral(s) => s.goal,
            Self::Random(s) => s.goal,
            Self::Pgd(s) => s.goal,
        }
    }

    /// How many directions v_i of the spectrum it needs; 0: no spectrum at all.
    pub fn directions(&self) -> usize {
        match self {
            Self::Spectral(s) => s.top,
            Self::Pgd(s) if s.start == Start::Spectral => s.restarts,
            Self::Random(_) | Self::Pgd(_) => 0,
        }
    }

    /// The same attack with what the command line sets.
    #[must_use]
    pub fn with(mut self, set: &Overrides) -> Self {
        let goal = match &mut self {
            Self::Spectral(s) => {
                s.top = set.top.unwrap_or(s.top);
                s.scale = set.scale.unwrap_or(s.scale);
                &mut s.goal
            }
            Self::Random(s) => &mut s.goal,
            Self::Pgd(s) => {
                s.steps = set.steps.unwrap_or(s.steps);
                &mut s.goal
            }
        };
        *goal = set.goal.unwrap_or(*goal);
        self
    }

    /// Whether the settings are in range and fit the norm.
    ///
    /// # Errors
    /// A wrong request that names the first setting that is not.
    pub fn check(&self, norm: Norm) -> Result<()> {
        match self {
            Self::Spectral(s) => s.check(norm),
            Self::Random(s) => s.check(),
            Self::Pgd(s) => s.check(),
        }
    }

    /// The searches it stands for; of several the worst is its result.
    pub(crate) fn parts(&self) -> Vec<(String, Box<dyn Attack>)> {
        match self {
            Self::Spectral(s) => s.parts(),
            Self::Random(s) => vec![(self.name().to_owned(), Box::new(Random(s.clone())))],
            Self::Pgd(s) => vec![(self.name().to_owned(), Box::new(Pgd(s.clone())))],
        }
    }
}

/// Refuses a list of attacks that is empty or would store two results under one name.
pub fn distinct(attacks: &[AttackSpec]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for attack in attacks {
        if !seen.insert(attack.name()) {
            return Err(Error::request("attacks", "each once", format!("{} twice", attack.name())));
        }
    }
    match attacks {
        [] => Err(Error::request("attacks", "at least one", "none")),
        _ => Ok(()),
    }
}
