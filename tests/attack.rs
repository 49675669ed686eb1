//! Budgets, goals, attacks and their judge.

mod budget;
mod crew;
mod draws;
pub(crate) mod flags;
mod goal;
mod grid;
mod inside;
mod limits;
mod minimal;
mod obeys;
mod pytorch;
mod race;
mod run;
mod scaled;
mod spec;
mod starts;
pub(crate) mod toy;
mod through;
mod transfer;
mod universal;
mod walls;
