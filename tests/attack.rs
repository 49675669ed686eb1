//! Tests of `attack`.
