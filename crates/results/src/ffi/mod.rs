//! The only unsafe code: calls of the system that Rust's own library does not offer.
#![allow(unsafe_code)]

pub mod lock;
