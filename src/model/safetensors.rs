//! Named tensors in a file: the safetensors format, which holds numbers and no code.
//!
//! The format has no checksum, so the free text of its header has one (docs/formats.md): weights with a bit turned over would be read in
//! silence otherwise. Files of other programs, and those of version 0.1.0, have none.

use super::atomic::write_atomically;
use crate::error::{Error, Result};
use flate2::Crc;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The key of the checksum in the header's free text.
const CHECKSUM: &str = "checksum";
/// What its value begins with, so that a key that is damaged does not hide it.
const CRC32: &str = "crc32:";

/// The contents of a file.
#[derive(Debug)]
pub struct Contents {
    /// The tensors, on the CPU, by name.
    pub tensors: Vec<(String, Tensor)>,
    /// The header's free text.
    pub metadata: HashMap<String, String>,
}

/// Reads a whole file.
///
/// # Errors
/// If it cannot be read, is truncated or damaged, or is not safetensors; the error names the path.
pub fn read(path: &Path) -> Result<Contents> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let broken = |found: String| Error::request(path.display().to_string(), "a complete safetensors file", found);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(describe(&e, bytes.len())))?;
    let views = SafeTensors::deserialize(&bytes).map_err(|e| broken(describe(&e, bytes.len())))?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    let told = metadata.iter().find(|(key, value)| *key == CHECKSUM || value.starts_with(CRC32));
    if let Some((key, value)) = told.map(|(key, value)| (key.clone(), value.clone())) {
        metadata.remove(&key);
        if key != CHECKSUM || value != checksum(&views.tensors(), &metadata) {
            let found = "other bytes (damaged or changed): the checksum disagrees".to_owned();
            return Err(Error::request(path.display().to_string(), "tensors as they were written", found));
        }
    }
    let mut tensors = Vec::new();
    for (name, view) in views.tensors() {
        let kind = kind_of(view.dtype()).ok_or_else(|| broken(format!("tensor {name} of {:?}", view.dtype())))?;
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        tensors.push((name, Tensor::f_from_data_size(view.data(), &shape, kind)?));
    }
    Ok(Contents { tensors, metadata })
}

/// Writes a file; it appears under its name only when it is complete.
pub fn write<N: AsRef<str>>(
    path: &Path,
    tensors: &[(N, Tensor)],
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let mut buffers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let kind = tensor.f_kind()?;
        let dtype = dtype_of(kind).ok_or_else(|| {
            Error::request(format!("{}: tensor {}", path.display(), name.as_ref()), "numbers", format!("{kind:?}"))
        })?;
        let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        buffers.push((name.as_ref(), dtype, tensor.size().iter().map(|&n| n as usize).collect(), bytes));
    }
    let unfit = |e: SafeTensorError| Error::request(path.display().to_string(), "tensors to write", e.to_string());
    let mut views = Vec::with_capacity(buffers.len());
    for (name, dtype, shape, bytes) in &buffers {
        let shape: &Vec<usize> = shape;
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(unfit)?));
    }
    let mut metadata = metadata.unwrap_or_default();
    let sum = checksum(&views, &metadata);
    metadata.insert(CHECKSUM.to_owned(), sum);
    let bytes = safetensors::tensor::serialize(views, &Some(metadata)).map_err(unfit)?;
    write_atomically(path, &bytes)
}

/// `crc32:` and the CRC-32 of lines: one for each tensor, by name (`name type shape`, and the CRC-32 of its bytes), and then one for each
/// piece of free text, by name (`name=text`).
fn checksum<N: AsRef<str>>(tensors: &[(N, TensorView)], metadata: &HashMap<String, String>) -> String {
    let of = |bytes: &[u8]| {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum()
    };
    let tensor = |(name, view): &(N, TensorView)| {
        let line = format!("{} {:?} {:?} {}\n", name.as_ref(), view.dtype(), view.shape(), of(view.data()));
        (name.as_ref().to_owned(), line)
    };
    let tensors: BTreeMap<String, String> = tensors.iter().map(tensor).collect();
    let texts: BTreeMap<&String, String> = metadata.iter().map(|(n, text)| (n, format!("{n}={text}\n"))).collect();
    let text: String = tensors.into_values().chain(texts.into_values()).collect();
    format!("{CRC32}{}", of(text.as_bytes()))
}

fn describe(error: &SafeTensorError, bytes: usize) -> String {
    use SafeTensorError as E;
    match error {
        E::InvalidHeaderLength | E::HeaderTooSmall => {
            format!("{bytes} bytes that end before its header does")
        }
        E::MetadataIncompleteBuffer => format!("{bytes} bytes, not as many as its header says"),
        E::InvalidHeader | E::InvalidHeaderStart | E::InvalidHeaderDeserialization | E::HeaderTooLarge => {
            "something else".to_owned()
        }
        other => format!("an invalid header ({other:?})"),
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        _ => return None,
    })
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Double => Dtype::F64,
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Uint8 => Dtype::U8,
        _ => return None,
    })
}
