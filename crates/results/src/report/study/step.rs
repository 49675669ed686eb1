//! Sets of attacks, and the lengths of their steps.

/// Attacks that were requested together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepSet {
    /// Its key in the file; empty for the main set.
    pub key: String,
    /// `l2`, `linf` or `l1`; empty if the file does not say.
    pub norm: String,
    /// The scale of a step along a direction.
    pub scale: StepScale,
    /// The metric whose directions are taken.
    pub metric: String,
}

/// The scale of a step along the i-th direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepScale {
    /// The step's length is epsilon.
    #[default]
    Unit,
    /// The step's length is epsilon lambda_i, the scale of the authors' paper.
    Eigen,
    /// The step's length is epsilon sqrt(lambda_i), the scale of the authors' code.
    Singular,
}

impl StepScale {
    /// The scale in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unit => "equal steps",
            Self::Eigen => "steps of ε λᵢ",
            Self::Singular => "steps of ε √λᵢ",
        }
    }

    /// The length of a step of size `eps` along a direction with the eigenvalue `lambda`.
    pub fn length(self, eps: f64, lambda: f64) -> f64 {
        match self {
            Self::Unit => eps,
            Self::Eigen => eps * lambda,
            Self::Singular => eps * lambda.max(0.0).sqrt(),
        }
    }
}
