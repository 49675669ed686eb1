//! What a search has found after so many passes: its damage over its cost.

use crate::error::Result;
use tch::{Kind, Tensor};

/// The numbers of passes at which result files tell the damage.
pub const BUDGETS: [usize; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Damage to each sample after a number of passes for each sample. A pass is forward and backward; where a search takes more of one way than
/// of the other, the larger number counts.
#[derive(Debug, Default)]
pub struct Curve {
    /// In the order in which they were found.
    seen: Vec<(f64, Tensor)>,
    /// `[B]` bool: samples whose damage is not known in the end.
    lost: Option<Tensor>,
}

impl Curve {
    /// Notes the `damage` `[B]` f64 of one image for each sample, or the most of several, after `passes`.
    pub(super) fn note(&mut self, passes: f64, damage: Tensor) {
        self.seen.push((passes, damage));
    }

    /// Notes the rows of `damage` [T, B], which followed each other at `each` passes a row, the first after `before` + `each`.
    pub(super) fn follow(&mut self, before: f64, each: f64, damage: &Tensor) -> Result<()> {
        let rows = damage.f_unbind(0)?.into_iter().enumerate();
        self.seen.extend(rows.map(|(row, damage)| (before + each * (row + 1) as f64, damage)));
        Ok(())
    }

    /// Notes what another search found that began after `before` passes.
    pub(super) fn join(&mut self, before: f64, other: &Self) {
        self.seen.extend(other.seen.iter().map(|(passes, damage)| (before + passes, damage.shallow_clone())));
    }

    /// Notes that the damage to the samples `lost` `[B]` bool is not known: nothing of their curve counts.
    pub(super) fn lose(&mut self, lost: Tensor) {
        self.lost = Some(lost);
    }

    /// Whether nothing was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The most damage within each number of passes of [`BUDGETS`], [B, P] f64, of a search before which `before` passes were spent; NaN
    /// where nothing had been found by then, and for lost samples. `None` if nothing was noted.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn at_budgets(&self, before: f64) -> Result<Option<Tensor>> {
        let Some((_, first)) = self.seen.first() else { return Ok(None) };
        let mut order: Vec<&(f64, Tensor)> = self.seen.iter().collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut order = order.into_iter().peekable();
        let mut most = Tensor::f_full(first.size(), f64::NAN, (Kind::Double, first.device()))?;
        let mut all = Vec::with_capacity(BUDGETS.len());
        for budget in BUDGETS {
            let mut found = vec![most];
            while let Some((_, damage)) = order.next_if(|(passes, _)| before + passes <= budget as f64) {
                found.push(damage.shallow_clone());
            }
            most = most_of(&Tensor::f_stack(&found, 0)?)?;
            all.push(most.shallow_clone());
        }
        let all = Tensor::f_stack(&all, 1)?;
        Ok(Some(match &self.lost {
            Some(lost) => all.f_masked_fill(&lost.f_unsqueeze(1)?, f64::NAN)?,
            None => all,
        }))
    }
}

/// The largest numbers along the first axis, NaN only where there is none.
pub(super) fn most_of(damage: &Tensor) -> Result<Tensor> {
    let lost = damage.f_isnan()?;
    let most = damage.f_masked_fill(&lost, f64::NEG_INFINITY)?.f_amax([0i64].as_slice(), false)?;
    Ok(most.f_masked_fill(&lost.f_all_dim(0, false)?, f64::NAN)?)
}
