//! The losses of training, for each epoch.

use crate::error::Result;
use crate::model::write_atomically;
use pullback_results::history::{COLUMNS, Table};
use std::path::Path;

/// Losses of one epoch, in nats for each sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: u32,
    /// Weight of the KL term in its last step.
    pub beta: f64,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Mean of the minimised loss.
    pub loss: f64,
    /// Mean of -ln p(x|z).
    pub reconstruction: f64,
    /// Mean of KL(q(z|x) || N(0, I)).
    pub kl: f64,
    /// Mean of mixup's term, before its strength; 0 if mixup is off.
    pub mixup: f64,
    /// The same for the validation data, if there are any.
    pub valid: Option<Valid>,
    /// Wall time of the epoch, with validation.
    pub seconds: f64,
}

/// Validation losses, in nats for each sample; one draw of z for each sample, the same in every epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Valid {
    /// -reconstruction - kl, a lower bound of ln p(x) whatever beta is.
    pub elbo: f64,
    /// Mean of -ln p(x|z).
    pub reconstruction: f64,
    /// Mean of KL(q(z|x) || N(0, I)).
    pub kl: f64,
}

/// All epochs of a run, first to last, with those before a resume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// One entry for each epoch.
    pub epochs: Vec<Epoch>,
}

/// Numbers in one row of [`History::to_rows`].
pub(crate) const ROW: usize = COLUMNS.len();

impl History {
    /// Comma-separated, one line for each epoch; validation columns are empty if there is no validation.
    pub fn to_csv(&self) -> String {
        let columns = COLUMNS.map(str::to_owned).to_vec();
        let rows = self.to_rows().chunks_exact(ROW).map(<[f64]>::to_vec).collect();
        Table { columns, rows }.to_csv()
    }

    /// Reads the output of [`History::to_csv`]; columns that are missing are NaN.
    ///
    /// # Errors
    /// A wrong request if the file does not exist or is not such a table.
    pub fn read(path: &Path) -> Result<Self> {
        let table = Table::read(path)?;
        let rows = table.rows.iter().flat_map(|row| COLUMNS.map(|name| table.value(row, name)));
        Ok(Self::from_rows(&rows.collect::<Vec<_>>()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.to_csv().as_bytes())
    }

    /// The numbers, by [`COLUMNS`], [`ROW`] for each epoch; NaN stands for no validation.
    pub(crate) fn to_rows(&self) -> Vec<f64> {
        let mut rows = Vec::with_capacity(self.epochs.len() * ROW);
        for e in &self.epochs {
            let nothing = Valid { elbo: f64::NAN, reconstruction: f64::NAN, kl: f64::NAN };
            let v = e.valid.unwrap_or(nothing);
            let epoch = f64::from(e.epoch);
            rows.extend([epoch, e.beta, e.lr, e.loss, e.reconstruction, e.kl, e.mixup]);
            rows.extend([v.elbo, v.reconstruction, v.kl, e.seconds]);
        }
        rows
    }

    pub(crate) fn from_rows(rows: &[f64]) -> Self {
        let epochs = rows.chunks_exact(ROW).map(|r| Epoch {
            epoch: r[0] as u32,
            beta: r[1],
            lr: r[2],
            loss: r[3],
            reconstruction: r[4],
            kl: r[5],
            mixup: r[6],
            valid: (!r[7].is_nan()).then_some(Valid { elbo: r[7], reconstruction: r[8], kl: r[9] }),
            seconds: r[10],
        });
        Self { epochs: epochs.collect() }
    }
}
