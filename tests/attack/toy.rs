//! Small models whose geometry is known in closed form.

use pullback::Result;
use pullback::model::{Posterior, Vae};
use pullback::seed::{self, Stage};
use pullback::spectrum::Spectrum;
use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// Standard normal [rows, columns] numbers, f64.
pub fn normal(key: u64, rows: usize, columns: usize) -> Tensor {
    let index: Vec<u64> = (0..rows as u64).collect();
    seed::normal(key, Stage::Init, &index, columns).unwrap().to_kind(Kind::Double)
}

/// B images [B, 1, 4, 4] on (0.2, 0.8), f64.
pub fn images(key: u64, batch: usize) -> Tensor {
    (normal(key, batch, 16).sigmoid() * 0.6 + 0.2).view([-1, 1, 4, 4])
}

/// Hidden units of the tanh model or none.
pub enum Body {
    /// mu and logvar are linear in x.
    Linear,
    /// They are linear in tanh(3 H x).
    Tanh(Tensor),
}

/// mu = W h + w, logvar = V h + v, x_hat = sigmoid(A z), h = x or tanh(3 H x); 16 pixels, 3 latents.
pub struct Toy {
    pub body: Body,
    pub mean: Tensor,
    pub log_var: Tensor,
    pub decoder: Tensor,
    pub encoded: Cell<usize>,
    pub decoded: Cell<usize>,
}

impl Toy {
    pub fn linear(kind: Kind) -> Self {
        Self::new(Body::Linear, 16, kind)
    }

    pub fn tanh(kind: Kind) -> Self {
        Self::new(Body::Tanh(normal(4, 12, 16).to_kind(kind) * 0.75), 12, kind)
    }

    fn new(body: Body, width: usize, kind: Kind) -> Self {
        // Rows of different length, so that the eigenvalues lie apart.
        let scale = Tensor::from_slice(&[2.0, 1.0, 0.5]).view([3, 1]);
        Self {
            body,
            mean: (normal(1, 3, width) * &scale).to_kind(kind),
            log_var: (normal(2, 3, width) * 0.4).to_kind(kind),
            decoder: normal(3, 16, 3).to_kind(kind),
            encoded: Cell::new(0),
            decoded: Cell::new(0),
        }
    }

    /// The same model on another device.
    pub fn to(self, device: Device) -> Self {
        Self {
            body: match self.body {
                Body::Tanh(hidden) => Body::Tanh(hidden.to_device(device)),
                Body::Linear => Body::Linear,
            },
            mean: self.mean.to_device(device),
            log_var: self.log_var.to_device(device),
            decoder: self.decoder.to_device(device),
            ..self
        }
    }

    /// Factor A [B, 6, 16] of the `fisher` metric of the linear model at `x`: [W / sigma; V / sqrt 2].
    pub fn fisher(&self, x: &Tensor) -> Tensor {
        let std = self.encode(x).unwrap().std().unwrap().unsqueeze(2);
        let lower = (&self.log_var * 0.5f64.sqrt()).unsqueeze(0).expand([x.size()[0], 3, 16], false);
        Tensor::cat(&[self.mean.unsqueeze(0) / std, lower], 1)
    }

    /// Factor W [B, 3, 16] of the `mean` metric of the linear model.
    pub fn pullback(&self, x: &Tensor) -> Tensor {
        self.mean.unsqueeze(0).expand([x.size()[0], 3, 16], false)
    }
}

impl Vae for Toy {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.encoded.set(self.encoded.get() + 1);
        let x = x.flatten(1, -1);
        let h = match &self.body {
            Body::Linear => x,
            Body::Tanh(hidden) => (x.matmul(&hidden.tr()) * 3.0).tanh(),
        };
        Ok(Posterior { mean: h.matmul(&self.mean.tr()), log_var: h.matmul(&self.log_var.tr()) - 1.0 })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.decoded.set(self.decoded.get() + 1);
        Ok(z.matmul(&self.decoder.tr()).sigmoid().view([-1, 1, 4, 4]))
    }
}

/// A model whose posterior has collapsed: nothing depends on x.
pub struct Collapsed;

impl Vae for Collapsed {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let zero = Tensor::zeros([x.size()[0], 3], (x.kind(), x.device()));
        Ok(Posterior { mean: zero.copy(), log_var: zero })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.sum_dim_intlist([1i64].as_slice(), true, z.kind()).view([-1, 1, 1, 1]).repeat([1, 1, 4, 4]))
    }
}

/// Spectrum of G = A^T A, G formed whole: `factor` A [B, R, D].
pub fn spectrum(factor: &Tensor) -> Spectrum {
    let a = factor.to_kind(Kind::Double);
    let (values, vectors) = a.transpose(1, 2).matmul(&a).linalg_eigh("L");
    Spectrum {
        values: values.flip([1]).clamp_min(0.0),
        directions: Some(vectors.flip([2]).transpose(1, 2).contiguous()),
    }
}

/// The Jacobian [B, 3, 16] of mu by central differences.
pub fn jacobian(toy: &Toy, x: &Tensor) -> Tensor {
    let h = 1e-5;
    let columns: Vec<Tensor> = (0..16)
        .map(|i| {
            let step = Tensor::zeros([16], (x.kind(), x.device()));
            let _ = step.get(i).fill_(h);
            let step = step.view([1, 1, 4, 4]);
            let ends = [x + &step, x - &step].map(|x| toy.encode(&x).unwrap().mean);
            (&ends[0] - &ends[1]) / (2.0 * h)
        })
        .collect();
    Tensor::stack(&columns, 2)
}

/// A tensor's values on the host.
pub fn list(t: &Tensor) -> Vec<f64> {
    Vec::try_from(&t.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1)).unwrap()
}
