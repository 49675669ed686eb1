//! Attacks as the user chooses them: by names on the command line, or by tagged maps in the YAML.

use super::apgd::{Apgd, ApgdSpec};
use super::fitted::Fitted;
use super::iterated::{Iterated, IteratedSpec};
use super::minimal::{Minimal, MinimalSpec};
use super::pgd::{Pgd, PgdSpec};
use super::race::{Race, RaceSpec};
use super::random::{Random, RandomSpec};
use super::spectral::SpectralSpec;
use super::square::{Square, SquareSpec};
use super::start::Start;
use super::suite::SuiteSpec;
use super::transfer::{Transfer, TransferSpec};
use super::universal::UniversalSpec;
use super::{Attack, Family, Goal, Norm};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_yaml::Value;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Many short ascents; the best of them continue.
    Race(RaceSpec),
    /// From what was found for other images of the data set.
    Transfer(TransferSpec),
    /// Along the leading eigenvector of the metric at each iterate.
    SpectralIterated(IteratedSpec),
    /// A gradient ascent that finds its own step.
    Apgd(ApgdSpec),
    /// A random search without gradients.
    Square(SquareSpec),
    /// The smallest perturbation that does a given damage.
    Minimal(MinimalSpec),
    /// One perturbation for all images, fitted on some of the samples and judged on the others.
    Universal(UniversalSpec),
    /// Several attacks, without settings to tune.
    Suite(SuiteSpec),
}

/// A setting for every attack that has it: `--steps 40` is the key `steps` with the value 40.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// The flag that the user typed.
    pub flag: &'static str,
    /// Its key in the YAML of an attack.
    pub key: &'static str,
    /// The value of that key.
    pub value: Value,
}

impl Knob {
    /// A flag and its key.
    ///
    /// # Errors
    /// An internal error if the value cannot be written as YAML.
    pub fn new(flag: &'static str, key: &'static str, value: impl Serialize) -> Result<Self> {
        let value = serde_yaml::to_value(value).map_err(|e| Error::internal("attack::spec", e.to_string()))?;
        Ok(Self { flag, key, value })
    }

    /// Puts this setting on each of `attacks` that has it.
    ///
    /// # Errors
    /// A wrong request if none of them has it, or the value is not valid for it.
    pub fn turn(&self, attacks: &mut [AttackSpec]) -> Result<()> {
        let mut taken = false;
        for attack in attacks.iter_mut() {
            if let Some(changed) = attack.with(self)? {
                *attack = changed;
                taken = true;
            }
        }
        if taken {
            return Ok(());
        }
        let mut having = vec![];
        for spec in AttackSpec::iter() {
            if spec.with(self)?.is_some() {
                having.push(spec.name());
            }
        }
        let expected = match having[..] {
            [only] => format!("the attack {only} among those chosen"),
            _ => format!("one of the attacks {} among those chosen", having.join(", ")),
        };
        let names: Vec<_> = attacks.iter().map(AttackSpec::name).collect();
        Err(Error::request(self.flag, expected, names.join(", ")))
    }
}

/// What readers of a result need to know about its attacks, as root attributes: `norm`, `goal` (one for each goal, if there are several),
/// and the `scale` of steps along directions.
pub fn told(norm: Norm, attacks: &[AttackSpec]) -> BTreeMap<String, String> {
    let mut goals: Vec<String> = Vec::new();
    for goal in attacks.iter().map(|attack| attack.goal().to_string()) {
        if !goals.contains(&goal) {
            goals.push(goal);
        }
    }
    let scale = attacks.iter().find_map(|attack| match attack {
        AttackSpec::Spectral(s) => Some(("scale", s.scale.name().to_owned())),
        _ => None,
    });
    let told = [("norm", norm.to_string()), ("goal", goals.join(", "))].into_iter().chain(scale);
    told.map(|(name, value)| (name.to_owned(), value)).collect()
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
            Self::Suite(s) => own.into_iter().chain(s.parts().into_iter().map(|(name, _)| name)).collect(),
            Self::Spectral(s) if s.top > 1 => own.into_iter().chain((1..=s.top).map(|i| format!("u{i}"))).collect(),
            _ => own.into(),
        }
    }

    /// The goal that it increases.
    pub fn goal(&self) -> Goal {
        match self {
            Self::Spectral(s) => s.goal,
            Self::Random(s) => s.goal,
            Self::Pgd(s) => s.goal,
            Self::Race(s) => s.goal,
            Self::Transfer(s) => s.goal,
            Self::SpectralIterated(s) => s.goal,
            Self::Apgd(s) => s.goal,
            Self::Square(s) => s.goal,
            Self::Minimal(s) => s.goal,
            Self::Universal(s) => s.goal,
            Self::Suite(s) => s.goal,
        }
    }

    /// How many directions v_i of the spectrum it needs; 0: no spectrum at all.
    pub fn directions(&self) -> usize {
        match self {
            Self::Spectral(s) => s.top,
            Self::Pgd(s) if s.start == Start::Spectral => s.restarts,
            _ => 0,
        }
    }

    /// How many directions it moves along, if there are so many.
    pub fn wishes(&self) -> usize {
        let hoped = self.parts().iter().map(|(_, attack)| attack.directions()).max();
        hoped.unwrap_or(0).max(self.directions())
    }

    /// Whether it moves towards other images of the data set.
    pub fn needs_others(&self) -> bool {
        match self {
            Self::Pgd(s) => s.start == Start::Others,
            Self::Apgd(s) => s.start == Start::Others,
            Self::Race(s) => s.starts.contains(&Start::Others),
            Self::Minimal(_) | Self::Transfer(_) | Self::Suite(_) => true,
            Self::Spectral(_) | Self::Random(_) | Self::SpectralIterated(_) | Self::Square(_) | Self::Universal(_) => {
                false
            }
        }
    }

    /// The goal for which it needs a pool of perturbations, if it needs one.
    pub fn pooled(&self) -> Option<Goal> {
        match self {
            Self::Transfer(s) => Some(s.goal),
            Self::Suite(s) => Some(s.goal),
            _ => None,
        }
    }

    /// The same attack with a setting; `None` if it has no such setting.
    ///
    /// # Errors
    /// A wrong request if the value is not valid for it.
    pub fn with(&self, knob: &Knob) -> Result<Option<Self>> {
        let internal = |e: serde_yaml::Error| Error::internal("attack::spec", e.to_string());
        let mut map = serde_yaml::to_value(self).map_err(internal)?;
        if let Some(map) = map.as_mapping_mut() {
            map.insert(knob.key.into(), knob.value.clone());
        }
        match serde_yaml::from_value(map) {
            Ok(spec) => Ok(Some(spec)),
            Err(error) if error.to_string().contains("unknown field") => Ok(None),
            Err(error) => Err(Error::request(knob.flag, "a value that the attack takes", error.to_string())),
        }
    }

    /// Whether the settings are in range and fit the norm.
    ///
    /// # Errors
    /// A wrong request that names the first setting that does not.
    pub fn check(&self, norm: Norm) -> Result<()> {
        match self {
            Self::Spectral(s) => s.check(norm),
            Self::Random(s) => s.check(),
            Self::Pgd(s) => s.check(),
            Self::Race(s) => s.check(),
            Self::Transfer(s) => s.check(),
            Self::SpectralIterated(s) => s.check(),
            Self::Apgd(s) => s.check(),
            Self::Square(s) => s.check(),
            Self::Minimal(s) => s.check(),
            Self::Universal(s) => s.check(),
            Self::Suite(_) => Ok(()),
        }
    }

    fn alone(&self, attack: impl Attack + 'static) -> Vec<(String, Box<dyn Attack>)> {
        vec![(self.name().to_owned(), Box::new(attack))]
    }

    /// The family of the strongest of its parts.
    pub(crate) fn family(&self) -> Family {
        match self {
            Self::Suite(_) => Family::Gradient,
            _ => Family::Spectral,
        }
    }

    /// The searches that it consists of; the worst of their results is its result.
    pub(crate) fn parts(&self) -> Vec<(String, Box<dyn Attack>)> {
        match self {
            Self::Spectral(s) => s.parts(),
            Self::Suite(s) => s.parts(),
            Self::Random(s) => self.alone(Random(s.clone())),
            Self::Pgd(s) => self.alone(Pgd(s.clone())),
            Self::Race(s) => self.alone(Race { spec: s.clone(), name: self.name(), skipped: 0, anew: true }),
            Self::Transfer(s) => {
                self.alone(Transfer { spec: s.clone(), name: self.name(), skipped: 0, perturbations: None })
            }
            Self::SpectralIterated(s) => self.alone(Iterated(s.clone())),
            Self::Apgd(s) => self.alone(Apgd(s.clone())),
            Self::Square(s) => self.alone(Square(s.clone())),
            Self::Minimal(s) => self.alone(Minimal(s.clone())),
            Self::Universal(s) => self.alone(Fitted(s.clone())),
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
