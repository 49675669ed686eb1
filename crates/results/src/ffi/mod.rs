//! The only unsafe code: what the system offers and Rust's own library does not.
#![allow(unsafe_code)]

pub mod lock;
