//! Every kernel on the host (the device's body) and, where there is one, on CUDA: against plain loops and against LAPACK.

mod step;
mod banks;
mod eigh;
mod gram;
mod launch;
mod plain;
mod race;
mod sanitized;
mod scores;
mod settings;
mod solver;

use tch::{Device, Kind, Tensor};

/// Orders on both sides of the edges of warps, blocks, tiles and patches.
const ORDERS: [i64; 21] = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 200, 256];
/// Orders with which a kind and way take just less than 48 KB of a block's dynamic shared memory.
const BRIMFUL: [i64; 7] = [89, 103, 107, 149, 150, 152, 153];

/// Standard normal, f64.
fn normal(size: &[i64], seed: u64) -> Tensor {
    use crate::toy::rand;
    let (u, v) = (rand(size, seed), rand(size, seed + 1_000_003));
    ((u.neg() + 1.0).log() * -2.0).sqrt() * (v * std::f64::consts::TAU).cos()
}

/// Largest |entry|; infinite where one is not a number.
fn largest(t: &Tensor) -> f64 {
    if t.numel() == 0 {
        return 0.0;
    }
    let m = t.to_kind(Kind::Double).abs().max().double_value(&[]);
    if m.is_nan() { f64::INFINITY } else { m }
}

fn list(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_device(Device::Cpu).to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

fn epsilon(kind: Kind) -> f64 {
    if kind == Kind::Float { f64::from(f32::EPSILON) } else { f64::EPSILON }
}
