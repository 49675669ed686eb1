//! TensorBoard event files: scalars and images over training steps.
//!
//! A record is a length, the length's checksum, an encoded `Event`, its checksum; an `Event` is a Protocol Buffers message, and only a few
//! of its fields are used here. The crates that write such files need a protobuf compiler for their build (tboard) or old versions of
//! protobuf and image (tensorboard-rs), but the task is only a page of code.
//!
//! Source: `tensorflow/core/lib/io/record_writer.h`, `tensorboard/compat/proto/{event,summary}.proto`.

use crate::error::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The beginning of every event file's name; TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";
/// Bytes around an event: before it its length and the length's checksum, after it its own checksum.
const FRAME: u64 = 16;

/// Writes one event file; a folder may hold several, which TensorBoard joins.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Begins a new event file in `folder`, which is created if it does not exist.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let seconds = wall_time() as u64;
        let process = std::process::id();
        let mut attempt = 0;
        let (path, file) = loop {
            let path = folder.join(format!("{PREFIX}{seconds:010}.{process}.{attempt}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => attempt += 1,
                Err(e) => return Err(Error::io(path, e)),
            }
        };
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.begin()?;
        Ok(writer)
    }

    /// Continues the newest event file in `folder`, or begins one; also returns the last step in it.
    ///
    /// The remains of a killed run are removed: an incomplete record, and all events from the first whose step is beyond `step`, so that no
    /// step appears twice.
    pub fn resume(folder: &Path, step: u64) -> Result<(Self, Option<u64>)> {
        let Some(path) = event_files(folder)?.pop() else { return Ok((Self::create(folder)?, None)) };
        let failed = |e| Error::io(&path, e);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let (length, last) = whole(&mut file, step).map_err(failed)?;
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        if length == 0 {
            writer.begin()?;
        }
        Ok((writer, last))
    }

    /// Removes the event files in `folder`, and the folder if nothing else is in it.
    pub fn clear(folder: &Path) -> Result<()> {
        for path in event_files(folder)? {
            fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
        // A folder that does not exist or holds something else is not changed.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    /// Writes the record with which every file begins.
    fn begin(&mut self) -> Result<()> {
        // Event.file_version = 3
        let mut event = vec![];
        bytes(&mut event, 3, b"brain.Event:2");
        self.event(0, &event)?;
        self.flush()
    }

    /// The event file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the values of a step.
    pub fn put(&mut self, step: &Step) -> Result<()> {
        // Event.summary = 5
        let mut event = vec![];
        bytes(&mut event, 5, &step.summary);
        self.event(step.number, &event)
    }

    /// Passes everything written so far to the system, so that TensorBoard sees it.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, e))
    }

    /// One record: an event at the present time and at `step`, with the encoded fields `what`.
    fn event(&mut self, step: u64, what: &[u8]) -> Result<()> {
        // Event: wall_time = 1, step = 2
        let mut event = vec![];
        key(&mut event, 1, Wire::Fixed64);
        event.extend_from_slice(&wall_time().to_le_bytes());
        key(&mut event, 2, Wire::Varint);
        varint(&mut event, step);
        event.extend_from_slice(what);

        let length = (event.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.len() + 16);
        record.extend_from_slice(&length);
        record.extend_from_slice(&masked_crc(&length).to_le_bytes());
        record.extend_from_slice(&event);
        record.extend_from_slice(&masked_crc(&event).to_le_bytes());
        self.file.write_all(&record).map_err(|e| Error::io(&self.path, e))
    }
}

/// The values of one step. They are written as one record, so that a killed run leaves all of them or none.
#[derive(Clone, Debug)]
pub struct Step {
    number: u64,
    /// An encoded `Summary`.
    summary: Vec<u8>,
}

impl Step {
    /// Step `number`, without values.
    pub fn new(number: u64) -> Self {
        Self { number, summary: vec![] }
    }

    /// Adds one point to the curve `tag`; TensorBoard keeps single precision.
    pub fn scalar(&mut self, tag: &str, value: f64) {
        // Summary.Value.simple_value = 2
        let mut field = vec![];
        key(&mut field, 2, Wire::Fixed32);
        field.extend_from_slice(&(value as f32).to_le_bytes());
        self.value(tag, &field);
    }

    /// Adds one image to the strip `tag`: `pixels` by rows, [height, width, channels], channels 1 (grey) or 3 (RGB).
    pub fn image(&mut self, tag: &str, pixels: &[u8], width: u32, height: u32, channels: u32) -> Result<()> {
        let color = match channels {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            other => {
                return Err(Error::request(format!("channels of {tag}"), "1 or 3", other.to_string()));
            }
        };
        let expected = u64::from(width) * u64::from(height) * u64::from(channels);
        if pixels.len() as u64 != expected || expected == 0 {
            let found = format!("{} for {width} x {height} x {channels}", pixels.len());
            return Err(Error::request(format!("pixels of {tag}"), "width x height x channels values", found));
        }
        let mut png = vec![];
        PngEncoder::new(&mut png)
            .write_image(pixels, width, height, color)
            .map_err(|e| Error::internal("PNG encoder", e.to_string()))?;
        // Summary.Image: height = 1, width = 2, colorspace = 3, encoded_image_string = 4
        let mut image = vec![];
        for (number, value) in [(1, height), (2, width), (3, channels)] {
            key(&mut image, number, Wire::Varint);
            varint(&mut image, u64::from(value));
        }
        bytes(&mut image, 4, &png);
        // Summary.Value.image = 4
        let mut field = vec![];
        bytes(&mut field, 4, &image);
        self.value(tag, &field);
        Ok(())
    }

    /// Adds a value whose `field` is already encoded.
    fn value(&mut self, tag: &str, field: &[u8]) {
        // Summary.Value.tag = 1
        let mut value = vec![];
        bytes(&mut value, 1, tag.as_bytes());
        value.extend_from_slice(field);
        // Summary.value = 1
        bytes(&mut self.summary, 1, &value);
    }
}

/// The event files in `folder`, oldest first.
fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(Error::io(folder, e)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()).map_err(|e| Error::io(folder, e)))
        .collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX)));
    // The name contains the second in which the file was begun.
    paths.sort();
    Ok(paths)
}

/// The number of bytes of `file` in complete records of steps up to `step`, and the last step among them that has a value.
fn whole(file: &mut File, step: u64) -> std::io::Result<(u64, Option<u64>)> {
    let size = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let (mut at, mut last) = (0, None);
    while size - at >= FRAME {
        let mut head = [0; 12];
        reader.read_exact(&mut head)?;
        let (length, check) = head.split_at(8);
        if check != masked_crc(length).to_le_bytes() {
            break;
        }
        let length = length.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        if length > size - at - FRAME {
            break;
        }
        let mut event = vec![0; length as usize + 4];
        reader.read_exact(&mut event)?;
        let (event, check) = event.split_at(length as usize);
        if check != masked_crc(event).to_le_bytes() {
            break;
        }
        let found = step_of(event);
        if found > step {
            break;
        }
        // The record at the file's beginning has no value.
        last = if at == 0 { None } else { Some(found) };
        at += FRAME + length;
    }
    Ok((at, last))
}

/// The step of an encoded event; 0 if it has none, as the format says.
fn step_of(mut event: &[u8]) -> u64 {
    // Reads up to the step; this writer puts only the wall time before it.
    while let Some(field) = read_varint(&mut event) {
        let skip = match (field >> 3, field & 7) {
            (2, 0) => return read_varint(&mut event).unwrap_or(0),
            (_, 0) => read_varint(&mut event).map(|_| 0),
            (_, 1) => Some(8),
            (_, 2) => read_varint(&mut event),
            (_, 5) => Some(4),
            _ => None,
        };
        match skip.and_then(|n| event.get(n as usize..)) {
            Some(rest) => event = rest,
            None => break,
        }
    }
    0
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// The encoding of a field's value.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn key(out: &mut Vec<u8>, number: u64, wire: Wire) {
    varint(out, number << 3 | wire as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    key(out, number, Wire::Bytes);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// CRC-32C of every byte value (Castagnoli's polynomial, reflected).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// The checksum in records: rotated and shifted, because a CRC of data that contains CRCs is weak.
fn masked_crc(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}
