//! TensorBoard event files: scalars and images over training steps.
//!
//! A record is a length, the length's checksum, an encoded `Event`, its checksum; an `Event` is a Protocol Buffers
//! message of which a handful of fields are used here. The crates that write such files need a protobuf compiler when
//! built (tboard) or are bound to old versions of protobuf and image (tensorboard-rs), for what is a page of code.
//!
//! Source: `tensorflow/core/lib/io/record_writer.h`, `tensorboard/compat/proto/{event,summary}.proto`.

use crate::error::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes one event file; a folder may hold several (a resumed run adds one), which TensorBoard joins.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Begins a new event file in `folder`, which is made where it does not exist.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let seconds = wall_time() as u64;
        let process = std::process::id();
        let mut attempt = 0;
        let (path, file) = loop {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.{process}.{attempt}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => attempt += 1,
                Err(e) => return Err(Error::io(path, e)),
            }
        };
        let mut writer = Self { path, file: BufWriter::new(file) };
        // Event.file_version = 3
        let mut event = vec![];
        bytes(&mut event, 3, b"brain.Event:2");
        writer.event(0, &event)?;
        writer.flush()?;
        Ok(writer)
    }

    /// The event file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one point to the curve `tag`; TensorBoard keeps single precision.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        // Summary.Value.simple_value = 2
        let mut field = vec![];
        key(&mut field, 2, Wire::Fixed32);
        field.extend_from_slice(&(value as f32).to_le_bytes());
        self.summary(tag, step, &field)
    }

    /// Adds one image to the strip `tag`: `pixels` by rows, [height, width, channels], channels 1 (grey) or 3 (RGB).
    pub fn image(&mut self, tag: &str, step: u64, pixels: &[u8], width: u32, height: u32, channels: u32) -> Result<()> {
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
            .map_err(|e| Error::io(&self.path, std::io::Error::other(e)))?;
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
        self.summary(tag, step, &field)
    }

    /// Hands everything written so far to the system, for TensorBoard to see.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, e))
    }

    /// An event with one summary value, its `field` encoded already.
    fn summary(&mut self, tag: &str, step: u64, field: &[u8]) -> Result<()> {
        // Summary.Value.tag = 1
        let mut value = vec![];
        bytes(&mut value, 1, tag.as_bytes());
        value.extend_from_slice(field);
        // Summary.value = 1
        let mut summary = vec![];
        bytes(&mut summary, 1, &value);
        // Event.summary = 5
        let mut event = vec![];
        bytes(&mut event, 5, &summary);
        self.event(step, &event)
    }

    /// One record: an event of now at `step` with the encoded fields `what`.
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

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// How a field's value is laid out.
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

/// The checksum as records hold it: rotated and shifted, since a CRC of data that holds CRCs is weak.
fn masked_crc(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}
