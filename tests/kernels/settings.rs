//! Exact mathematics in a process whose owner allowed libtorch to round products to fewer bits.
#![allow(unsafe_code)] // libtorch's context, as PyTorch's settings reach it

use crate::child;
use pullback::ffi::{Products, Settings, exact_math, settings};
use std::ffi::c_void;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

// Numbers of the enumerations of ATen/Context.h: backends, operations, precisions.
const GENERIC: i32 = 0;
const CUDA: i32 = 1;
const MKLDNN: i32 = 2;
const ALL: i32 = 0;
const CONV: i32 = 1;
const RNN: i32 = 2;
const MATMUL: i32 = 3;
const IEEE: i32 = 1;
const TF32: i32 = 2;
const BF16: i32 = 3;

unsafe extern "C" {
    #[link_name = "_ZN2at13globalContextEv"]
    fn context() -> *mut c_void;
    #[link_name = "_ZN2at7Context19setFloat32PrecisionENS_14Float32BackendENS_9Float32OpENS_16Float32PrecisionE"]
    fn set_precision(context: *mut c_void, backend: i32, op: i32, precision: i32);
    #[link_name = "_ZNK2at7Context16float32PrecisionENS_14Float32BackendENS_9Float32OpE"]
    fn precision(context: *const c_void, backend: i32, op: i32) -> i32;
}

/// The setting is the process's.
#[test]
fn exact_mathematics_rounds_no_product_to_fewer_bits() {
    let mut command = child::test("kernels::settings::with_all_that_may_be_allowed");
    let done = child::within(Duration::from_secs(120), &mut command).expect("within two minutes");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
#[ignore = "a process of its own"]
fn with_all_that_may_be_allowed() {
    let products = [CONV, RNN, MATMUL];
    // SAFETY: the context lives as long as the process; both functions take numbers that their enumerations have.
    let set = |backend, op, to| unsafe { set_precision(context(), backend, op, to) };
    // SAFETY: as above.
    let all = || [CUDA, MKLDNN].map(|backend| products.map(|op| unsafe { precision(context(), backend, op) }));
    // torch.backends.fp32_precision, and what torch.set_float32_matmul_precision("medium") sets of oneDNN.
    set(GENERIC, ALL, TF32);
    products.iter().for_each(|op| set(MKLDNN, *op, BF16));
    assert_eq!(all()[1], [BF16; 3]);
    exact_math().unwrap();
    assert_eq!(all(), [[IEEE; 3]; 2]);
    let exact = settings().unwrap();
    assert_eq!(exact, Settings { tf32: false, deterministic: false });
    drop(Products::new(true).unwrap());
    assert_eq!((all(), settings().unwrap()), ([[IEEE; 3]; 2], exact), "after a training in TF32");

    // 8 bits would leave an error of 1e-2 here, 24 leave 1e-5.
    let a = Tensor::rand([256, 256], (Kind::Float, Device::Cpu));
    let found = a.matmul(&a).to_kind(Kind::Double);
    let error = (found - a.to_kind(Kind::Double).matmul(&a.to_kind(Kind::Double))).abs().max().double_value(&[]);
    assert!(error < 1e-3, "{error}");
}
