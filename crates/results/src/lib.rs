//! pullback's measurements in files and on a page: results in HDF5, which survive a crash, and the report that is made from them.
//!
//! The crate `pullback` computes what is stored here, and shows these modules under its own name. This crate does not use libtorch, so that
//! reading results does not need it.

pub mod error; //  what can go wrong with files
pub mod ffi; //    the only unsafe code: the system's locks
pub mod lock; //   files that two processes must not write at the same time
pub mod store; //  results in HDF5
pub mod history; // the losses of training for each epoch
pub mod report; // stored results -> one HTML page

pub use error::{Error, Result};
