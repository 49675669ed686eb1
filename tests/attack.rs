//! Budgets, goals, attacks and their judge.

mod budget;
mod crew;
mod goal;
mod limits;
mod race;
mod run;
mod spec;
pub(crate) mod toy;
