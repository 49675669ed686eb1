//! Joins the cells' files into one: `[N]` becomes `[S, N]`, `[E, N]` becomes `[S, E, N]`, for one piece of the samples at a time.

use super::cell::{DIRECTIONS_FILE, PICTURES_FILE, attack_file, score_file};
use super::cells::Cells;
use super::relate::Related;
use super::summary::{CellSummary, SINGULAR};
use crate::attack;
use crate::config::{Cell, SweepSpec};
use crate::device;
use crate::error::{Error, Result};
use crate::ffi;
use crate::store::{self, Block, Column, FileKind, Header, Reader, Values, Writer};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// The number of doubles in a piece, so that it stays near 128 MiB.
const PIECE: usize = 16 << 20;

/// The place of a data set of the sweep in every cell.
struct Part {
    /// The cell's file.
    file: String,
    /// Its path there.
    from: String,
    /// Its path in the sweep.
    to: String,
}

/// Writes `sweep.h5`.
pub(super) fn write(
    path: &Path,
    spec: &SweepSpec,
    rows: &[CellSummary],
    relations: &[&[Related]],
    within: &[(String, Vec<[f64; 3]>)],
    folder: &impl Fn(&Cell) -> PathBuf,
    device: Device,
) -> Result<()> {
    let folders: Vec<PathBuf> = rows.iter().map(|row| folder(&row.cell)).collect();
    if folders.is_empty() {
        return Err(Error::request("sweep", "at least one model", "none"));
    }
    let mut cells = Cells::new(&folders);
    let scores = cells.reader(0, &score_file(spec, 0))?;
    let index = scores.index().to_vec();
    let labels = scores.info("/label").map(|_| scores.read_i64("/label")).transpose()?.map(|(_, values)| values);
    let parts = parts(spec, &mut cells)?;
    let header = header(spec, rows, &scores, device)?;
    let mut fixed = fixed(rows, relations, within);
    if spec.pictures > 0 {
        fixed.extend(pictures(&folders, &cells.reader(0, &attack_file(""))?.attacks())?);
    }
    // A sweep's file is made quickly, so pieces of an earlier attempt are not reused.
    let mut writer = Writer::anew(path, &header, index.clone(), &fixed)?;
    let width: usize = parts.iter().map(|part| part.width(&mut cells)).sum::<Result<usize>>()?;
    let step = (PIECE / (width * rows.len()).max(1)).clamp(1, index.len().max(1));
    let mut start = 0;
    while start < index.len() {
        let range = start..(start + step).min(index.len());
        let mut columns = stacked(&parts, &mut cells, &range)?;
        columns.extend(singular(spec, &columns)?);
        let piece = Block {
            index: index[range.clone()].to_vec(),
            labels: labels.as_ref().map(|l| l[range.clone()].to_vec()),
            columns,
        };
        writer.put(&piece)?;
        start = range.end;
    }
    Ok(writer.finish()?)
}

/// All data sets of the cells that have one row for each sample.
fn parts(spec: &SweepSpec, cells: &mut Cells<'_>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (i, metric) in spec.score.metrics.iter().enumerate() {
        let file = score_file(spec, i);
        let reader = cells.reader(0, &file)?;
        let prefix = if i == 0 { String::new() } else { format!("{metric}.") };
        let mut add = |group: &str, name: &str| {
            let (from, to) = (format!("/{group}/{name}"), format!("/{group}/{prefix}{name}"));
            parts.push(Part { file: file.clone(), from, to });
        };
        add("spectrum", "eigenvalues");
        reader.scores().iter().for_each(|name| add("scores", name));
    }
    for (set, _) in spec.attacks() {
        let file = attack_file(&set);
        let reader = cells.reader(0, &file)?;
        if set.is_empty() {
            for name in reader.clean() {
                let path = format!("/clean/{name}");
                parts.push(Part { file: file.clone(), from: path.clone(), to: path });
            }
        }
        for attack in reader.attacks() {
            for measure in reader.measures(&attack).into_iter().filter(|m| spec.measures.contains(m)) {
                let from = format!("/attack/{attack}/{measure}");
                let to = format!("{}/{attack}/{measure}", store::attacks(&set));
                parts.push(Part { file: file.clone(), from, to });
            }
        }
    }
    Ok(parts)
}

impl Part {
    /// Numbers for each sample.
    fn width(&self, cells: &mut Cells<'_>) -> Result<usize> {
        let reader = cells.reader(0, &self.file)?;
        let all: usize = reader.info(&self.from).map_or(0, |d| d.shape.iter().product());
        Ok(all / reader.samples().max(1))
    }
}

/// The rows `range` of every part, cell after cell. The loop runs over cells and takes the parts of one file together.
fn stacked(parts: &[Part], cells: &mut Cells<'_>, range: &Range<usize>) -> Result<Vec<Column>> {
    let mut stacks: Vec<Stack> = parts.iter().map(|_| Stack::default()).collect();
    for cell in 0..cells.folders.len() {
        for (part, stack) in parts.iter().zip(&mut stacks) {
            let reader = cells.reader(cell, &part.file)?;
            stack.push(&reader, &part.from, range)?;
        }
    }
    let models = cells.folders.len();
    Ok(stacks.into_iter().zip(parts).map(|(stack, part)| stack.column(&part.to, models)).collect())
}

/// One part of all cells, one after the other.
#[derive(Default)]
struct Stack {
    shape: Vec<usize>,
    sample_axis: usize,
    values: Vec<f64>,
}

impl Stack {
    /// Adds the next cell's part.
    fn push(&mut self, reader: &Reader, from: &str, range: &Range<usize>) -> Result<()> {
        let column = reader.read_rows(from, range.clone())?;
        let path = reader.path().display();
        if !self.shape.is_empty() && self.shape != column.shape {
            return Err(Error::request(
                format!("{path}: shape of {from}"),
                format!("{:?}, as in the sweep's other models", self.shape),
                format!("{:?}", column.shape),
            ));
        }
        (self.shape, self.sample_axis) = (column.shape, column.sample_axis);
        match column.values {
            Values::F64(values) => self.values.extend(values),
            _ => return Err(Error::request(format!("{path}: {from}"), "f64", "another type")),
        }
        Ok(())
    }

    fn column(self, path: &str, models: usize) -> Column {
        let shape = [&[models], &self.shape[..]].concat();
        Column { path: path.to_owned(), shape, sample_axis: self.sample_axis + 1, values: Values::F64(self.values) }
    }
}

/// The scores of the singular values, from the spectra among `columns`.
fn singular(spec: &SweepSpec, columns: &[Column]) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    for (i, metric) in spec.score.metrics.iter().enumerate() {
        let prefix = if i == 0 { String::new() } else { format!("{metric}.") };
        let path = format!("/spectrum/{prefix}eigenvalues");
        let Some(Column { shape, values: Values::F64(values), .. }) = columns.iter().find(|c| c.path == path) else {
            continue;
        };
        let [models, samples, rank] = shape[..] else { continue };
        let roots = Tensor::f_from_slice(values)?.f_reshape([(models * samples) as i64, rank as i64])?.f_sqrt()?;
        for (name, score) in SINGULAR {
            found.push(Column {
                path: format!("/scores/{prefix}{name}"),
                shape: vec![models, samples],
                sample_axis: 1,
                values: Values::F64(Vec::<f64>::try_from(score.of(&roots)?)?),
            });
        }
    }
    Ok(found)
}

/// The data sets that do not have a row for each sample.
fn fixed(rows: &[CellSummary], relations: &[&[Related]], within: &[(String, Vec<[f64; 3]>)]) -> Vec<Column> {
    let column =
        |path: &str, shape: Vec<usize>, values: Values| Column { path: path.to_owned(), shape, sample_axis: 0, values };
    let s = rows.len();
    let of = |value: &dyn Fn(&CellSummary) -> f64| Values::F64(rows.iter().map(value).collect());
    let eps = rows.first().map(|r| r.eps.clone()).unwrap_or_default();
    let mut fixed = vec![
        column("/beta", vec![s], of(&|r| r.cell.beta)),
        column("/mixup", vec![s], Values::U8(rows.iter().map(|r| u8::from(r.cell.mixup > 0.0)).collect())),
        column("/mixup_strength", vec![s], of(&|r| r.cell.mixup)),
        column("/seed", vec![s], Values::I64(rows.iter().map(|r| r.cell.seed as i64).collect())),
        column("/eps", vec![eps.len()], Values::F64(eps)),
    ];
    for (i, (name, _)) in rows.first().map(|r| r.losses.clone()).unwrap_or_default().iter().enumerate() {
        fixed.push(column(&format!("/training/{name}"), vec![s], of(&|r| r.losses[i].1)));
    }
    for relation in relations.iter().flat_map(|r| r.iter()) {
        fixed.push(column(&relation.path(), vec![3], Values::F64(relation.interval.to_vec())));
    }
    for (path, intervals) in within {
        fixed.push(column(path, vec![intervals.len(), 3], Values::F64(intervals.concat())));
    }
    fixed
}

/// The images of a few samples, under `/pictures`: clean ones once, [M,C,H,W], the rest for every model, [S,...]. Images attacked along the
/// first direction are stored under that direction's name among the main `attacks`.
fn pictures(folders: &[PathBuf], attacks: &[String]) -> Result<Vec<Column>> {
    let first = match folders.first().map(|f| f.join(PICTURES_FILE)) {
        Some(file) if file.exists() => Reader::open(&file)?,
        _ => return Ok(vec![]),
    };
    let column = |path: &str, shape: Vec<usize>, values: Values| Column {
        path: format!("/pictures{path}"),
        shape,
        sample_axis: 0,
        values,
    };
    let (shape, images) = first.read_f32("/clean/images")?;
    let index: Vec<i64> = first.index().iter().map(|i| *i as i64).collect();
    let mut found = vec![
        column("/index", vec![index.len()], Values::I64(index)),
        column("/clean/images", shape, Values::F32(images)),
    ];
    let along = attacks.iter().find(|name| store::direction(name, attacks) == Some(1));
    let along = along.map_or("spectral", String::as_str);
    let of_models = [
        (PICTURES_FILE, "/clean/recon", "/clean/recon".to_owned()),
        (PICTURES_FILE, "/attack/spectral/images", format!("/attack/{along}/images")),
        (PICTURES_FILE, "/attack/spectral/recon", format!("/attack/{along}/recon")),
        (DIRECTIONS_FILE, "/spectrum/directions", "/spectrum/directions".to_owned()),
    ];
    for (file, from, to) in &of_models {
        let (mut shape, mut stacked) = (Vec::new(), Vec::new());
        for folder in folders {
            let (own, values) = Reader::open(&folder.join(file))?.read_f32(from)?;
            shape = own;
            stacked.extend(values);
        }
        shape.insert(0, folders.len());
        found.push(column(to, shape, Values::F32(stacked)));
    }
    Ok(found)
}

fn header(spec: &SweepSpec, rows: &[CellSummary], scores: &Reader, device: Device) -> Result<Header> {
    let mut models = Sha256::new();
    rows.iter().for_each(|row| models.update(&row.sha256));
    let seed = rows.first().map_or(0, |row| row.cell.seed);
    let sets = spec.attacks();
    let extra = sets.iter().flat_map(|(set, attack)| {
        let prefix = if set.is_empty() { String::new() } else { format!("further.{set}.") };
        let metric = if set.is_empty() { "attack.metric".to_owned() } else { format!("{prefix}metric") };
        let told = attack::told(attack.norm, &attack.attacks).into_iter();
        told.map(move |(name, value)| (format!("{prefix}{name}"), value)).chain([(metric, attack.metric.to_string())])
    });
    Ok(Header {
        kind: FileKind::Sweep,
        config: spec.to_yaml()?,
        model: format!("{} models", rows.len()),
        model_sha256: models.finalize().iter().map(|b| format!("{b:02x}")).collect(),
        dataset: scores.header().dataset.clone(),
        data_sha256: scores.header().data_sha256.clone(),
        samples: scores.header().samples,
        split: spec.split.name().to_owned(),
        device: device::name(device),
        precision: spec.score.precision.name().to_owned(),
        seed,
        libtorch: ffi::LIBTORCH.to_owned(),
        metric: spec.score.metrics.first().map(ToString::to_string),
        extra: extra.collect(),
    })
}
