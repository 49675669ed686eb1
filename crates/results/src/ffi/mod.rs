//! The only unsafe code: calls of the system, and of HDF5, that no library in safe Rust offers.
#![allow(unsafe_code)]

pub mod lock;
pub mod virtual_parts;
