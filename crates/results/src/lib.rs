//! What pullback measured, in files and on a page: results in HDF5, written so that they survive, and the report made of them.
//!
//! The crate `pullback` computes what is stored here, and shows these modules under its own name. This one knows no libtorch: whoever
//! reads results needs none.

pub mod error; //  what can go wrong with files
pub mod ffi; //    the only unsafe code: the system's locks
pub mod lock; //   what two processes may not write at one time
pub mod store; //  results in HDF5
pub mod history; // what training told, epoch by epoch
pub mod report; // stored results -> one HTML page

pub use error::{Error, Result};
