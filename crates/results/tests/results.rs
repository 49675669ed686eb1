//! One integration binary, which needs no libtorch. Files mirror src/.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs)]

mod apart; //  nothing here leads to libtorch
// Whose other half stops programs.
#[allow(dead_code)]
#[path = "../../../tests/child.rs"]
mod child; //  processes with a limit of time
// Whose other half chooses moments.
#[allow(dead_code)]
#[path = "../../../tests/dice.rs"]
mod dice; //   damaged files
mod files; //  where the tests find what they read
mod parsers; // bytes and texts that are read by hand
#[path = "../../../tests/python.rs"]
mod python; // what Python's libraries say of a file
mod report; // which files belong together
mod store; //  HDF5 files as h5py reads them
