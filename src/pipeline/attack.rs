//! `attack`: images to attacked images and the damage done.

use super::aim::Aimed;
use super::attack_request::AttackRequest;
use super::block::Block;
use super::finder::Finder;
use super::flow::joined;
use super::halves::Halves;
use super::job::Job;
use super::others;
use super::parts::Stage;
use super::pictures::Pictures;
use super::provided::Provided;
use super::search::{Given, Search, Wish};
use super::told::has_damage;
use super::universal;
use crate::attack::{self, AttackSpec, BUDGETS, Budget, Crew, Goal, Loops, Pool, Universal};
use crate::config::{HandOut, PixelBox};
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Silent};
use crate::jacobian::{BatchSize, Reach};
use crate::metric::ensure_independent;
use crate::model::{Defence, Judged, Vae, open_judge, sha256};
use crate::store::{self, Column, FileKind, Values};
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use tch::{Device, Kind};

/// Samples that an attack handles at once, if the user did not say.
const AUTO_BATCH: (usize, usize) = (256, 2048);

/// A model of images with at most this many values counts as quick.
const SMALL: i64 = 4096;

/// Attacks every sample with every attack at every epsilon and stores the file: `/eps`, `/clean`, `/attack` (docs/formats.md).
///
/// # Errors
/// A wrong request if model, data, settings or output are wrong; other errors as they occur.
pub fn attack(request: &AttackRequest, observer: &dyn Observer) -> Result<()> {
    attack_with(request, &Provided::default(), observer)
}

/// [`attack()`] of a model or on data that are there already.
///
/// # Errors
/// As [`attack()`].
pub fn attack_with(request: &AttackRequest, provided: &Provided, observer: &dyn Observer) -> Result<()> {
    let budgets = budgets(request)?;
    let subject = &request.subject;
    let prepare = |vae: Box<dyn Vae>, device, kind| prepared(request, provided, vae, device, kind);
    let job = Job::open_prepared(subject, provided, &prepare, observer)?.behind(&request.through)?;
    if job.is_idle(observer) {
        return Ok(());
    }
    ensure_scales(request, &job)?;
    job.examine(Reach::EncoderAndDecoder, observer)?;
    request.metric.ensure_of_images("metric of an attack's directions")?;
    let mut finder = Finder::new(&job, &request.attacks, request.metric, &request.spectrum)?;
    let eps = Column {
        path: "/eps".to_owned(),
        shape: vec![request.eps.len()],
        sample_axis: 0,
        values: Values::F64(request.eps.clone()),
    };
    let others = request.attacks.iter().any(AttackSpec::needs_others).then(|| job.others()).transpose()?;
    let aimed = request
        .target
        .as_ref()
        .map(|target| job.aimed(target, request.attacks.iter().any(|a| a.goal() == Goal::Cosine)))
        .transpose()?;
    if request.rounded && request.pixels == PixelBox::Off {
        let (expected, found) = if subject.reading.is_free() {
            ("pixels in [0, 1], as files hold", "--full-scale none")
        } else {
            ("--box on: files hold pixels in [0, 1]", "--box off")
        };
        return Err(Error::request("images of 8 bits (--save-png)", expected, found));
    }
    let files = request.pictures.as_deref();
    let files = files.map(|folder| Pictures::open(folder, &request.attacks, &request.eps, &job)).transpose()?;
    let metric = Some(request.metric.to_string());
    // Checked before anything is written: every attack's damage is measured through encoder and decoder.
    let vae = job.model.vae.as_ref();
    crate::ffi::convolution::forget_weights();
    ensure_independent(vae, &job.sample()?, Reach::EncoderAndDecoder)?;
    let _ = tch::no_grad(|| vae.features(&job.sample()?))?;
    // A fit takes long: what the writer would refuse is refused before it.
    if !matches!(subject.hand_out, HandOut::InTurn { .. }) {
        store::ensure_free(&subject.output, subject.overwrite)?;
    }
    let fits = universal::asked(&request.attacks)
        .map(|spec| job.universal(spec, &budgets, aimed.as_ref(), request.eot, observer))
        .transpose()?;
    // Towards a target each sample has a way of its own, which no other image shares.
    let pool = match others.as_ref().filter(|_| aimed.is_none()) {
        Some(others) => job.pool(&request.attacks, &budgets, others, request.eot, observer)?,
        None => None,
    };
    let budgets_told = Column {
        path: "/curve/passes".to_owned(),
        shape: vec![BUDGETS.len()],
        sample_axis: 0,
        values: Values::F64(BUDGETS.iter().map(|passes| *passes as f64).collect()),
    };
    let mut fixed: Vec<Column> = [eps, budgets_told]
        .into_iter()
        .chain(others.as_ref().map(|others| others::column("/others", &others.index)))
        .collect();
    fixed.extend(pool.as_ref().map(|pool| others::column("/pool", &pool.index)));
    fixed.extend(fits.as_ref().map(|fits| job.universal_columns(fits)).transpose()?.into_iter().flatten());
    let mut attributes = finder.attributes();
    attributes.extend(attack::told(request.norm, &request.attacks));
    attributes.extend(request.eot.map(|draws| ("eot".to_owned(), draws.to_string())));
    if !request.through.is_empty() {
        let names: Vec<String> = request.through.iter().map(Defence::to_string).collect();
        attributes.insert("through".to_owned(), names.join(", "));
    }
    if let Some(judge) = request.judge.as_ref().filter(|_| provided.judge.is_none()) {
        attributes.insert("judge_sha256".to_owned(), sha256(judge)?);
    }
    if let Some(hash) = aimed.as_ref().and_then(Aimed::sha256) {
        attributes.insert("target_sha256".to_owned(), hash.to_owned());
    }
    if let Some(suite) = request.attacks.iter().find(|a| matches!(a, AttackSpec::Suite(_))) {
        attributes.insert(suite.name().to_owned(), attack::SUITE.to_owned());
    }
    let block = match subject.batch {
        BatchSize::Fixed(n) => Block { unit: n, first: n, most: n },
        BatchSize::Auto if job.device.is_cuda() => Block { unit: 1, first: 512, most: AUTO_BATCH.1 },
        // Small images mean quick models, whose steps gain from large blocks; other models begin with small blocks.
        BatchSize::Auto if job.shape.dim() <= SMALL => Block { unit: 1, first: AUTO_BATCH.0, most: AUTO_BATCH.0 },
        BatchSize::Auto => Block { unit: 1, first: 64, most: AUTO_BATCH.0 },
    };
    let (loops, halves) = (loops_on(vae, request), Halves::default());
    let crew = Crew::of(vae, job.device);
    let search = Search::new(request, &budgets, &job, files, observer);
    let first = Cell::new(true);
    let stage = Stage {
        kind: FileKind::Attack,
        task: "attacking",
        metric,
        extra: attributes,
        fixed: &fixed,
        block,
        tells: has_damage,
    };
    let of = |subject| AttackRequest { subject, ..request.clone() };
    job.carry_out(stage, of, observer, |x, index| {
        let (spectrum, cost) = finder.spectrum(vae, x, index)?;
        let targets = aimed.as_ref().map(|aimed| job.target_images(aimed, index)).transpose()?;
        let partners = aimed.as_ref().and_then(|aimed| job.partners(aimed, index));
        // The attacks of all blocks behave alike, so this is reported once.
        let listener: &dyn Observer = if first.replace(false) { observer } else { &Silent };
        let part = |range: Range<usize>| -> Result<Given> {
            let (start, count) = (range.start as i64, range.len() as i64);
            let spectrum = spectrum.as_ref().map(|whole| whole.narrow(start, count)).transpose()?;
            let images = x.f_narrow(0, start, count)?;
            let target = match &targets {
                None => Wish::Away,
                Some(None) => Wish::Zero,
                Some(Some(ends)) => Wish::At(ends.narrow(start, count)?),
            };
            Ok(Given {
                images,
                target,
                cost,
                index: index[range.clone()].to_vec(),
                spectrum,
                others: others.as_ref().map(others::shared),
                universal: fits.as_ref().map(Universal::handle),
                pool: pool.as_ref().map(Pool::handle),
                partners: partners.as_ref().map(|all| all[range.clone()].to_vec()),
            })
        };
        halves.of(index.len(), |range| {
            let within = |own: Range<usize>| part(range.start + own.start..range.start + own.end);
            let divided =
                crew.divide(range.len(), within, |vae, given| search.block(loops_on(vae, request), &given, &Silent))?;
            match divided {
                Some(parts) => joined(parts),
                // The buffers of loops that did not fit would be in the way of smaller ones.
                None if range.len() < index.len() => {
                    search.block(loops_on(vae, request), &part(range.clone())?, listener)
                }
                None => search.block(loops.clone(), &part(range.clone())?, listener),
            }
        })
    })?;
    for line in search.doubts() {
        observer.on(Event::Warning(&line));
    }
    Ok(())
}

/// An empty store of loops, with eigenvectors that are found as the request says.
fn loops_on<'v>(vae: &'v dyn Vae, request: &AttackRequest) -> Rc<Loops<'v>> {
    Rc::new(Loops::on(vae).finding(&request.spectrum))
}

/// The model with what its goals read: layers that are watched, or a judge.
fn prepared(
    request: &AttackRequest,
    provided: &Provided,
    mut vae: Box<dyn Vae>,
    device: Device,
    kind: Kind,
) -> Result<Box<dyn Vae>> {
    if !request.layers.is_empty() {
        let repeated = |at: &usize| request.layers[..*at].contains(&request.layers[*at]);
        if let Some(at) = (0..request.layers.len()).find(repeated) {
            return Err(Error::request("layers", "each once", format!("{} twice", request.layers[at])));
        }
        vae.watch(&request.layers)?;
    }
    let Some(file) = &request.judge else { return Ok(vae) };
    if !request.layers.is_empty() {
        return Err(Error::request("goals of attacks", "either judge or layers in one run", "both"));
    }
    let judge = match provided.judge {
        Some(open) => open(device, kind)?,
        None => open_judge(file, device, kind)?,
    };
    Ok(Box::new(Judged::new(vae, judge, request.judge_reads)))
}

/// One budget for each epsilon; refuses settings that are out of range before any work.
fn budgets(request: &AttackRequest) -> Result<Vec<Budget>> {
    attack::distinct(&request.attacks)?;
    for spec in &request.attacks {
        spec.check(request.norm)?;
    }
    if request.eps.is_empty() {
        return Err(Error::request("eps", "at least one", "none"));
    }
    let pixels = match request.pixels {
        PixelBox::On => Some((0.0, 1.0)),
        PixelBox::Off => None,
    };
    request.eps.iter().map(|eps| Budget::new(request.norm, *eps, pixels)).collect()
}

/// Refuses goals and metrics that need a variance if the encoder gives none.
fn ensure_scales(request: &AttackRequest, job: &Job) -> Result<()> {
    if request.eot.is_some() {
        job.ensure_scale("draws of the code (--eot)", "none of them")?;
    }
    for spec in &request.attacks {
        let goal = spec.goal();
        if goal.needs_scale() {
            let expected = "latent, cosine, recon, recon-mse, hide, layers, grill or judge (--goal latent)";
            job.ensure_scale(&format!("goal {goal}"), expected)?;
        }
        if request.eot.is_some() && !goal.reads_reconstruction() {
            let expected = "a goal that reads the reconstruction, such as recon, whose code is drawn";
            return Err(Error::request("attack.eot (--eot)", expected, format!("goal {goal}")));
        }
        if spec.wishes() > 0 {
            job.ensure_directions(request.metric)?;
        }
        if let AttackSpec::SpectralIterated(own) = spec {
            job.ensure_directions(own.metric)?;
        }
    }
    Ok(())
}
