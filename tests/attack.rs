//! Budgets, goals, attacks and their judge.

mod budget;
mod goal;
mod limits;
mod run;
mod spec;
pub(crate) mod toy;
