//! Small VAEs with known weights, in double precision.

use crate::device::here;
use pullback::Result;
use pullback::model::{Posterior, Vae};
use tch::{Kind, Tensor};

/// Uniform on [0, 1), f64, where the test runs, from a fixed generator of its own.
pub fn rand(size: &[i64], seed: u64) -> Tensor {
    use pullback::seed::{Stage, uniform};
    let n: i64 = size.iter().product();
    let flat = uniform(seed, Stage::Probe, &[0], n as usize).unwrap();
    ((flat + 1.0) / 2.0).reshape(size).to_kind(Kind::Double).to_device(here())
}

/// One hidden tanh layer each way.
pub struct TanhMlp {
    hidden: Tensor,
    mean: Tensor,
    log_var: Tensor,
    decode_hidden: Tensor,
    decode: Tensor,
}

impl TanhMlp {
    /// `d` pixels, `h` hidden units, `l` latents.
    pub fn new(d: i64, h: i64, l: i64, seed: u64) -> Self {
        let weight = |rows: i64, columns: i64, k: u64| (rand(&[rows, columns], 10 * seed + k) - 0.5) * 2.0;
        Self {
            hidden: weight(h, d, 1),
            mean: weight(l, h, 2),
            log_var: weight(l, h, 3),
            decode_hidden: weight(h, l, 4),
            decode: weight(d, h, 5),
        }
    }
}

fn linear(x: &Tensor, w: &Tensor) -> Tensor {
    x.linear(&w.to_kind(x.kind()), None::<&Tensor>)
}

impl Vae for TanhMlp {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let h = linear(&x.flatten(1, -1), &self.hidden).tanh();
        Ok(Posterior { mean: linear(&h, &self.mean), log_var: linear(&h, &self.log_var) })
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let image = linear(&linear(z, &self.decode_hidden).tanh(), &self.decode).sigmoid();
        let (b, d) = image.size2().unwrap();
        Ok(image.reshape([b, 1, 1, d]))
    }
}

/// Forgets its input.
pub struct Collapsed;

impl Vae for Collapsed {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let zero = Tensor::zeros([x.size()[0], 3], (x.kind(), x.device()));
        Ok(Posterior { mean: zero.shallow_clone(), log_var: zero })
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.sin().reshape([-1, 1, 1, 3]))
    }
}
