//! Tests of `jacobian`.
