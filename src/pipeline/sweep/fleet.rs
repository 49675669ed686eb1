//! Trains the remaining models as one batched program, before the workers score and attack them.

use super::cell::{self, AtHand};
use super::watch::{Whole, span};
use crate::config::Precision;
use crate::config::{Cell, SweepSpec, Together};
use crate::device::{self, memory_budget};
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::model::Network;
use crate::pipeline::train;
use crate::train::{self as training, MixupSpec, TrainSpec};
use std::path::PathBuf;
use std::time::Instant;
use tch::Device;

/// True if models may be trained at once. Those of a fleet are begun together, so that none of them can be left to another process.
pub(super) fn may_be(spec: &SweepSpec, device: Device) -> bool {
    match spec.together {
        Together::Off => false,
        Together::Fixed(n) => n > 1,
        Together::Auto => device.is_cuda(),
    }
}

/// How many models are trained at once; 1 means that each worker trains its own.
pub(super) fn size(spec: &SweepSpec, device: Device, pending: usize) -> Result<usize> {
    if !may_be(spec, device) || pending < 2 {
        return Ok(1);
    }
    let most = match spec.together {
        Together::Fixed(n) => n,
        Together::Off | Together::Auto => {
            // A step of one model is measured; each of several models that are trained together takes as much.
            let mut model = spec.model.clone();
            model.resolve(train::shape(&spec.data)?)?;
            let network = Network::new(&model, 0, device, Precision::F32.kind())?;
            let strength = spec.cells().iter().fold(0.0, |most: f64, cell| most.max(cell.mixup));
            let mixup = MixupSpec { strength, ..spec.train.mixup };
            let each = training::bytes(&network, &TrainSpec { mixup, ..spec.train.clone() })?.max(1);
            let held = spec.train.hold_mib << 20;
            (memory_budget(device)?.saturating_sub(held) / each).max(1) as usize
        }
    };
    Ok(most.min(pending).max(1))
}

/// Trains the models of `pending` that need it, `size` at a time; returns the positions of those that failed.
pub(super) fn work(
    spec: &SweepSpec,
    pending: &[(Cell, u64)],
    size: usize,
    whole: &Whole<'_>,
    folder: &impl Fn(&Cell) -> PathBuf,
    data: &AtHand,
) -> Result<Vec<(usize, Error)>> {
    let mut places = Vec::new();
    for (place, (cell, _)) in pending.iter().enumerate() {
        if !cell::is_trained(spec, *cell, &folder(cell), data)? {
            places.push(place);
        }
    }
    let mut failures = Vec::new();
    // Fleets have nearly equal sizes: 60 models of which 50 fit are two fleets of 30.
    let fleets = places.len().div_ceil(size).max(1);
    for fleet in places.chunks(places.len().div_ceil(fleets).max(1)) {
        let begin = Instant::now();
        let observers: Vec<_> =
            fleet.iter().map(|&i| whole.cell(pending[i].0, pending[i].1, spec.train.epochs)).collect();
        let request = |&i: &usize| cell::training(spec, pending[i].0, &folder(&pending[i].0));
        let requests: Vec<_> =
            fleet.iter().map(request).zip(observers.iter().map(|observer| observer as &dyn Observer)).collect();
        for (&place, result) in fleet.iter().zip(train::together(&requests)?) {
            if let Err(error) = result {
                whole.note(&format!("{}: {error}", pending[place].0.name()));
                failures.push((place, error));
            }
        }
        let took = span(begin.elapsed().as_secs_f64());
        whole.note(&format!(
            "{} models trained together on {} in {took}",
            fleet.len(),
            device::name(spec.device.resolve()?)
        ));
    }
    Ok(failures)
}
