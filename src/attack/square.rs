//! The Square attack: a random search that uses no gradient. If it does more damage than a gradient attack, gradients are masked.
//!
//! Source: Andriushchenko, Croce, Flammarion & Hein 2020: a square window of the perturbation is redrawn, and kept where the goal grows;
//! windows shrink by the authors' schedule. Linf follows their algorithm 2, which starts from vertical stripes.
//! Differs: the authors move mass between windows in L2 and L1; here a window of +-1 in each channel is added to the perturbation, which is
//! then moved back to the ball's surface.

use super::best::exceeds;
use super::least::at_least_one;
use super::{Attack, Budget, Curve, Family, Goal, Norm, Proposal, Victim};
use crate::error::Result;
use crate::seed::{self, Stage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Share of the pixels in the first windows.
const SHARE: f64 = 0.8;
/// The queries, out of 10,000, after which the windows' share is halved.
const HALVINGS: [f64; 9] = [10.0, 50.0, 200.0, 500.0, 1000.0, 2000.0, 4000.0, 6000.0, 8000.0];

/// `{kind: square}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SquareSpec {
    /// Forward passes for each sample and search (>= 1).
    pub queries: usize,
    /// Searches with other draws, of which the worst result is kept (>= 1).
    pub restarts: usize,
    /// What is driven up.
    pub goal: Goal,
}

impl Default for SquareSpec {
    fn default() -> Self {
        Self { queries: 500, restarts: 1, goal: Goal::default() }
    }
}

impl SquareSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("queries of the square attack", self.queries)?;
        at_least_one("restarts of the square attack", self.restarts)
    }
}

/// The search.
pub(super) struct Square(pub(super) SquareSpec);

impl Attack for Square {
    fn family(&self) -> Family {
        Family::Blind
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        self.0.restarts
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let SquareSpec { queries, goal, .. } = self.0;
        let x0 = victim.images();
        let mut windows = Windows::of(victim, trial);
        let mut best = budget.surface(x0, &windows.stripes()?)?;
        let mut damage = goal.value(victim, &best)?;
        let (each, mut curve) = (goal.draws(victim.aim()) as f64, Curve::default());
        curve.note(each, damage.shallow_clone());
        for query in 1..queries {
            crate::event::ensure_wanted()?;
            let (inside, signs) = windows.draw(share(query, queries))?;
            let delta = best.f_sub(x0)?;
            let next = match budget.norm {
                Norm::Linf => {
                    let drawn = signs.f_mul_scalar(budget.epsilon)?.f_expand(x0.size(), false)?;
                    budget.contract(x0, &x0.f_add(&drawn.f_where_self(&inside, &delta)?)?)?
                }
                // The size of the window in proportion to its share of the whole budget.
                Norm::L2 | Norm::L1 => {
                    let patch = budget.along(&signs.f_mul(&inside.f_to_kind(x0.kind())?)?)?;
                    let patch = patch.f_mul_scalar(budget.epsilon)?.f_mul_scalar(share(query, queries).sqrt())?;
                    budget.surface(x0, &delta.f_add(&patch)?)?
                }
            };
            let value = goal.value(victim, &next)?;
            let better = exceeds(&value, &damage)?;
            best = next.f_where_self(&better.f_view([-1, 1, 1, 1])?, &best)?;
            damage = value.f_where_self(&better, &damage)?;
            curve.note(each * (query + 1) as f64, damage.shallow_clone());
        }
        Ok(Proposal { candidates: vec![best], stalled: None, curve })
    }
}

/// The windows' share of the pixels at a query.
fn share(query: usize, queries: usize) -> f64 {
    let at = query as f64 * 10_000.0 / queries as f64;
    SHARE / f64::from(1u32 << HALVINGS.iter().filter(|h| at > **h).count())
}

/// Draws for each sample from the sample's own generator.
struct Windows<'a> {
    images: &'a Tensor,
    rngs: Vec<ChaCha8Rng>,
    channels: i64,
    height: i64,
    width: i64,
}

impl<'a> Windows<'a> {
    fn of(victim: &'a Victim, trial: usize) -> Self {
        let size = victim.images().size();
        // The streams between belong to draws of the code.
        let stream = (trial as u64) << 33;
        let rngs = victim.index().iter().map(|i| seed::generator(victim.seed(), Stage::Query, *i, stream)).collect();
        Self { images: victim.images(), rngs, channels: size[1], height: size[2], width: size[3] }
    }

    /// `count` signs for each sample.
    fn signs(&mut self, count: i64) -> Result<Tensor> {
        let draw = |rng: &mut ChaCha8Rng| if rng.random::<bool>() { 1f32 } else { -1.0 };
        let signs: Vec<f32> =
            self.rngs.iter_mut().flat_map(|rng| (0..count).map(|_| draw(rng)).collect::<Vec<_>>()).collect();
        let signs = Tensor::f_from_slice(&signs)?.f_view([-1, count])?;
        Ok(signs.f_to_device(self.images.device())?.f_to_kind(self.images.kind())?)
    }

    /// A sign for each column of each channel, [B, C, H, W].
    fn stripes(&mut self) -> Result<Tensor> {
        let (channels, width) = (self.channels, self.width);
        let signs = self.signs(channels * width)?.f_view([-1, channels, 1, width])?;
        Ok(signs.f_expand(self.images.size(), false)?.f_contiguous()?)
    }

    /// Where the window of each sample is, [B, 1, H, W] bool, and its signs [B, C, 1, 1].
    fn draw(&mut self, share: f64) -> Result<(Tensor, Tensor)> {
        let (height, width) = (self.height, self.width);
        let side = (share * (height * width) as f64).sqrt().round() as i64;
        let (h, w) = (side.clamp(1, height), side.clamp(1, width));
        let mut places: Vec<i64> = Vec::with_capacity(2 * self.rngs.len());
        for rng in &mut self.rngs {
            places.push(rng.random_range(0..=height - h));
            places.push(rng.random_range(0..=width - w));
        }
        let device = self.images.device();
        let places = Tensor::f_from_slice(&places)?.f_to_device(device)?.f_view([-1, 2, 1, 1])?;
        let within = |axis: i64, count: i64, long: i64, shape: [i64; 4]| -> Result<Tensor> {
            let first = places.f_narrow(1, axis, 1)?;
            let at = Tensor::f_arange(count, (Kind::Int64, device))?.f_view(shape)?;
            Ok(at.f_ge_tensor(&first)?.f_logical_and(&at.f_lt_tensor(&first.f_add_scalar(long)?)?)?)
        };
        let inside = within(0, height, h, [1, 1, -1, 1])?.f_logical_and(&within(1, width, w, [1, 1, 1, -1])?)?;
        let channels = self.channels;
        Ok((inside, self.signs(channels)?.f_view([-1, channels, 1, 1])?))
    }
}
