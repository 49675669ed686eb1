//! Tests of `spectrum`.
