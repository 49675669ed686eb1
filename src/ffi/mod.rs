//! (see the module map in lib.rs)
pub mod adam;
pub mod module;
