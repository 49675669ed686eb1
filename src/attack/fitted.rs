//! The universal attack on a sample: the perturbation that was fitted on other samples ([`Universal`]).
//!
//! [`Universal`]: super::Universal

use super::{Attack, Budget, Curve, Family, Goal, Proposal, UniversalSpec, Victim};
use crate::error::{Error, Result};
use tch::{Kind, Tensor};

/// The perturbation that the victim carries.
pub(super) struct Fitted(pub(super) UniversalSpec);

impl Attack for Fitted {
    fn family(&self) -> Family {
        Family::Universal
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        1
    }

    fn propose(&self, victim: &Victim, budget: &Budget, _: usize) -> Result<Proposal> {
        let lacking = || Error::request("universal attack", "a perturbation that was fitted to this budget", "none");
        let (fit, share) = victim.universal(budget).ok_or_else(lacking)?;
        let x = victim.images();
        victim.passes().add(share);
        let stalled = Tensor::f_full([x.size()[0]], i64::from(fit.stalled), (Kind::Bool, x.device()))?;
        Ok(Proposal { candidates: vec![x.f_add(&fit.perturbation)?], stalled: Some(stalled), curve: Curve::default() })
    }
}
