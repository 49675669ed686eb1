//! Budgets, goals, attacks and their judge.

mod budget;
mod crew;
mod draws;
mod goal;
mod grid;
mod inside;
mod limits;
mod minimal;
mod race;
mod run;
mod spec;
pub(crate) mod toy;
mod through;
mod universal;
