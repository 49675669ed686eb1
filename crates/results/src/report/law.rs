//! What the largest eigenvalue of a metric predicts to leading order, for a step of length e along v_1 (docs/mathematics.md):
//!
//! | metric                        | measure       | predicted        |
//! |-------------------------------|---------------|------------------|
//! | `mean`                        | `latent_l2`   | e sqrt(lambda_1) |
//! | `stochastic`                  | `latent_w2`   | e sqrt(lambda_1) |
//! | `fisher`                      | `latent_kl`   | e^2 lambda_1 / 2 |
//! | `output`, `output-stochastic` | `recon_shift` | e^2 lambda_1 / D |
//!
//! For `stochastic`, d^T G d = |J_mu d|^2 + |J_sigma d|^2 is the squared Wasserstein distance of the two diagonal Gaussians.
//! `output-stochastic` averages over the code's noise, which `recon_shift` does not contain: an upper bound.

/// The measure that a metric predicts, and the formula.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    /// Its name in files.
    pub measure: &'static str,
    /// The prediction as the page shows it.
    pub formula: &'static str,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Distance,
    Divergence,
    MeanSquare,
}

impl Law {
    /// The predicted measure for a step of length `length` if the largest eigenvalue is `lambda`; `dim` is D.
    pub fn predict(&self, lambda: f64, length: f64, dim: f64) -> f64 {
        match self.shape {
            Shape::Distance => length * lambda.max(0.0).sqrt(),
            Shape::Divergence => 0.5 * length * length * lambda,
            Shape::MeanSquare => length * length * lambda / dim,
        }
    }

    /// Whether it holds for attacks of this norm: its length is Euclidean. A file that does not say its norm is taken to be in L2.
    pub fn is_of_norm(norm: &str) -> bool {
        matches!(norm, "" | "l2")
    }

    /// Whether the prediction needs D.
    pub fn needs_dim(&self) -> bool {
        matches!(self.shape, Shape::MeanSquare)
    }
}

/// A distance, and the quadratic form whose root it is.
const HALF_SQUARE: &str = "ε √λ₁ (½ ε² λ₁ for half its square)";

/// The law of `metric`; `None` for a metric that this page does not know.
pub fn law(metric: &str) -> Option<Law> {
    let (measure, formula, shape) = match metric {
        "mean" => ("latent_l2", HALF_SQUARE, Shape::Distance),
        "stochastic" => ("latent_w2", HALF_SQUARE, Shape::Distance),
        "fisher" => ("latent_kl", "½ ε² λ₁", Shape::Divergence),
        "output" | "output-stochastic" => ("recon_shift", "ε² λ₁ / D", Shape::MeanSquare),
        _ => return None,
    };
    Some(Law { measure, formula, shape })
}
