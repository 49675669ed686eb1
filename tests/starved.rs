//! Memory that runs out in the middle of the work, for real passes of a model that has room for a few samples: they are asked again in smaller
//! pieces, and the results are those of a model with room for all.

use pullback::attack::{AttackSpec, Norm};
use pullback::config::{AttackConfig, HandOut, Precision};
use pullback::data::{Reading, Split};
use pullback::event::Silent;
use pullback::jacobian::BatchSize;
use pullback::metric::MetricKind;
use pullback::model::{Interface, Model, ModelSpec, Network, Posterior, Vae};
use pullback::pipeline::{AttackRequest, Provided, ScoreRequest, Subject, attack_with, score_with};
use pullback::spectrum::SpectrumSpec;
use pullback::store::{Overwrite, Reader};
use pullback::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};

/// A network with room for so many samples at a time; it counts how often it had none.
struct Tight {
    network: Network,
    room: i64,
    refused: Arc<AtomicUsize>,
}

impl Vae for Tight {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        if x.size()[0] > self.room {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let message = "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes".to_owned();
            return Err(Error::Native { routine: "encode", message });
        }
        self.network.encode(x)
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.network.decode(z)
    }
}

fn subject(output: &Path) -> Subject {
    Subject {
        model: "tight".into(),
        data: "strokes:size=8".to_owned(),
        split: Split::default(),
        limit: Some(22),
        sample: None,
        reading: Reading::default(),
        interface: Interface::default(),
        shard: None,
        hand_out: HandOut::default(),
        precision: Precision::F64,
        seed: 4,
        device: "cpu".parse().unwrap(),
        batch: BatchSize::Fixed(22),
        output: output.to_owned(),
        overwrite: Overwrite::No,
    }
}

/// The numbers of scores and of an attack by a model with this room, and how often it had too little.
fn found(folder: &Path, room: i64) -> Result<(Vec<Vec<f64>>, usize)> {
    let refused = Arc::new(AtomicUsize::new(0));
    let open = |_, kind: Kind, _| {
        let spec: ModelSpec =
            serde_yaml::from_str("{kind: mlp, image: {channels: 1, height: 8, width: 8}, hidden: [9], latent: 3}")
                .unwrap();
        let network = Network::new(&spec, 3, Device::Cpu, kind)?;
        let vae: Box<dyn Vae> = Box::new(Tight { network, room, refused: refused.clone() });
        Ok(Model { vae, image: None, latent: None, spec: None, sha256: String::new(), path: "tight".into() })
    };
    let provided = Provided { model: Some(&open), ..Provided::default() };
    let (scores, attacked) = (folder.join(format!("{room}-s.h5")), folder.join(format!("{room}-a.h5")));
    let request = ScoreRequest {
        subject: subject(&scores),
        metric: MetricKind::Stochastic,
        top: 1,
        spectrum: SpectrumSpec::default(),
        margin: None,
    };
    score_with(&request, &provided, &Silent)?;
    let pgd = "{kind: pgd, steps: 3}";
    let config = AttackConfig {
        attacks: vec!["random".parse::<AttackSpec>()?, serde_yaml::from_str(pgd).unwrap()],
        norm: Norm::L2,
        eps: Some(vec![0.5, 1.0]),
        ..AttackConfig::default()
    };
    attack_with(&AttackRequest::of(subject(&attacked), &config), &provided, &Silent)?;
    let mut numbers = Vec::new();
    for file in [scores, attacked] {
        let reader = Reader::open(&file)?;
        for info in reader.datasets() {
            if info.dtype == Some(pullback::store::Dtype::F64) && !info.path.starts_with("/passes") {
                numbers.push(reader.read_f64(&info.path)?.1);
            }
        }
    }
    Ok((numbers, refused.load(Ordering::Relaxed)))
}

#[test]
fn what_does_not_fit_is_done_in_smaller_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, never) = found(folder.path(), 1000).unwrap();
    assert_eq!(never, 0);
    let (numbers, refused) = found(folder.path(), 6).unwrap();
    assert!(refused >= 4, "22 samples, 11 and 6 of scores and of attacks: {refused}");
    assert_eq!(numbers.len(), expected.len());
    for (a, b) in numbers.iter().zip(&expected) {
        let size = b.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
        assert!(
            a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-8 * size),
            "{a:?} {b:?}"
        );
    }
    // Where not even one fits, it is said so.
    let error = found(folder.path(), 0).unwrap_err();
    assert!(error.to_string().contains("not enough memory"), "{error}");
}
