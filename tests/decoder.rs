//! The decoder's own metric G(z) = J_g^T J_g at z = mu(x): eigenpairs and the length of each latent, against finite differences.

use crate::files::root;
use crate::roundoff::apart;
use crate::toy::{TanhMlp, rand};
use pullback::jacobian::{BatchSize, Mode, Ways};
use pullback::metric::{Metric, MetricKind};
use pullback::model::Vae;
use pullback::spectrum::{Found, Spectra, SpectrumMode, SpectrumSpec, Wanted};
use pullback::store::Reader;
use std::process::Output;
use tch::{Device, Kind, Tensor};

const LATENT: i64 = 4;

fn largest(t: &Tensor) -> f64 {
    let m = t.abs().max().double_value(&[]);
    if m.is_nan() { f64::INFINITY } else { m }
}

/// J_g [B, O, L] at the codes of `x` by central differences of fourth order.
fn differences(vae: &dyn Vae, x: &Tensor) -> Tensor {
    let z = vae.encode(x).unwrap().mean;
    let h = 1e-3;
    let columns: Vec<Tensor> = (0..LATENT)
        .map(|k| {
            let unit = Tensor::zeros([1, LATENT], (Kind::Double, Device::Cpu));
            let _ = unit.narrow(1, k, 1).fill_(h);
            let at = |steps: f64| vae.decode(&(&z + &unit * steps)).unwrap().flatten(1, -1);
            (at(-2.0) - at(-1.0) * 8.0 + at(1.0) * 8.0 - at(2.0)) / (12.0 * h)
        })
        .collect();
    Tensor::stack(&columns, 2)
}

fn found(vae: &dyn Vae, x: &Tensor, mode: SpectrumMode, top: usize) -> (Found, Option<Tensor>) {
    let spec = SpectrumSpec { mode, ..SpectrumSpec::default() };
    let wanted = Wanted { spec, top, pairs: Some(top.max(1)), seed: 0, batch: BatchSize::Fixed(2) };
    let mut spectra = Spectra::wanted(vae, x, MetricKind::Decoder, &wanted).unwrap();
    let index: Vec<u64> = (0..x.size()[0] as u64).collect();
    let found = spectra.find(vae, x, &index).unwrap();
    (found, spectra.log_lengths().map(Tensor::shallow_clone))
}

#[test]
fn eigenpairs_and_lengths_are_those_of_the_decoder() {
    let (vae, x) = (TanhMlp::new(12, 9, LATENT, 1), rand(&[5, 1, 3, 4], 7));
    let j = differences(&vae, &x);
    let g = j.transpose(1, 2).bmm(&j);
    // Differences of fourth order: h^4 and rounding over h.
    let allowed = 1e-10;
    let (whole, lengths) = found(&vae, &x, SpectrumMode::Full, 2);
    let Found::Whole(spectrum) = whole else { panic!("whole spectra") };
    assert_eq!(spectrum.values.size(), [5, LATENT]);
    let dense = g.linalg_eigvalsh("L").flip([-1]);
    assert!(largest(&(&spectrum.values - &dense)) < allowed * largest(&dense));
    let v = spectrum.directions.unwrap().to_kind(Kind::Double);
    assert_eq!(v.size(), [5, 2, LATENT]);
    let residual = v.bmm(&g) - &v * spectrum.values.narrow(1, 0, 2).unsqueeze(-1);
    // Directions are kept in single precision.
    assert!(largest(&residual) < 4.0 * apart(Kind::Float, &[LATENT]) * largest(&dense));
    let expected: Tensor = g.diagonal(0, 1, 2).log() * 0.5;
    assert!(largest(&(lengths.unwrap() - expected)) < 1e-9);
}

#[test]
fn leading_pairs_are_the_same_and_the_ways_agree() {
    let (vae, x) = (TanhMlp::new(12, 9, LATENT, 2), rand(&[3, 1, 3, 4], 8));
    let whole = found(&vae, &x, SpectrumMode::Full, 0).0;
    let (leading, lengths) = found(&vae, &x, SpectrumMode::Top, 2);
    let size = largest(whole.values());
    assert!(largest(&(leading.values().narrow(1, 0, 2) - whole.values().narrow(1, 0, 2))) < 1e-9 * size);
    assert!(lengths.is_none(), "lengths are of whole spectra");
    for columns in [Mode::Looped, Mode::Vmapped(usize::MAX)] {
        let ways = Ways { rows: Mode::Looped, columns };
        let gram = Metric::at(&vae, &x, MetricKind::Decoder, ways).unwrap().gram().unwrap();
        let values = gram.linalg_eigvalsh("L").flip([-1]);
        assert!(largest(&(values - whole.values())) < apart(Kind::Double, &[12, LATENT, LATENT]) * size);
    }
}

#[test]
fn an_ignored_latent_has_no_length() {
    // Two latents that the decoder does not see.
    struct Half(TanhMlp);
    impl Vae for Half {
        fn encode(&self, x: &Tensor) -> pullback::Result<pullback::Posterior> {
            self.0.encode(x)
        }
        fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
            Ok(z.narrow(1, 0, 2).tanh().repeat([1, 3]).reshape([-1, 1, 2, 3]))
        }
    }
    let (vae, x) = (Half(TanhMlp::new(12, 9, LATENT, 3)), rand(&[2, 1, 3, 4], 9));
    let (whole, lengths) = found(&vae, &x, SpectrumMode::Full, 0);
    assert_eq!(largest(&whole.values().narrow(1, 2, 2)), 0.0);
    let lengths = lengths.unwrap();
    assert!(lengths.narrow(1, 0, 2).isfinite().all().int64_value(&[]) == 1, "{lengths:?}");
    assert!(lengths.narrow(1, 2, 2).eq(f64::NEG_INFINITY).all().int64_value(&[]) == 1);
}

#[test]
fn the_program_scores_codes_and_attacks_none() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| -> Output {
        crate::files::program().args(line.split(' ')).current_dir(folder.path()).output().unwrap()
    };
    let config = "data: {source: strokes, limit: 48, valid: 8}\nmodel: {kind: mlp, hidden: [12], latent: 3}\ntrain: {epochs: 1, batch: 16}\n";
    std::fs::write(folder.path().join("c.yaml"), config).unwrap();
    assert!(run("train -c c.yaml -o run -q").status.success(), "in {}", root().display());
    let scored = run("score -m run -d strokes -o s.h5 --metric decoder --top 2 --limit 10 -q");
    assert!(scored.status.success(), "{}", String::from_utf8_lossy(&scored.stderr));
    let reader = Reader::open(&folder.path().join("s.h5")).unwrap();
    let shape = |path: &str| reader.info(path).unwrap().shape.clone();
    assert_eq!((shape("/spectrum/eigenvalues"), shape("/spectrum/log_lengths")), (vec![10, 3], vec![10, 3]));
    assert_eq!(shape("/spectrum/directions"), [10, 2, 3]);
    assert!(run("report s.h5 -o r.html").status.success());
    for attack in ["spectral", "spectral-iterated"] {
        let refused = run(&format!("attack -m run -d strokes -o a.h5 --attack {attack} --metric decoder --limit 4"));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains("which is of codes"), "{said}");
        assert!(!folder.path().join("a.h5").exists() && !folder.path().join("a.h5.partial").exists());
    }
}
