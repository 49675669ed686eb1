//! The tensors of a model by name, in a fixed order.

use super::layer::{Role, Slot};
use crate::error::{Error, Result};
use crate::seed::{self, Stage};
use tch::{Device, Kind, Tensor};

/// Named tensors in the order of an architecture's slots: weights, biases, running statistics.
#[derive(Debug)]
pub struct Parameters {
    slots: Vec<Slot>,
    tensors: Vec<Tensor>,
    device: Device,
    kind: Kind,
}

impl Parameters {
    /// Fresh tensors; number i depends only on (`seed`, i) and is drawn in f32 on the host.
    pub fn initial(slots: &[Slot], seed: u64, device: Device, kind: Kind) -> Result<Self> {
        let mut tensors = Vec::with_capacity(slots.len());
        for (i, slot) in slots.iter().enumerate() {
            let shape = slot.shape.as_slice();
            let tensor = match slot.role {
                Role::Affine { fan_in } => {
                    let n = shape.iter().product::<i64>() as usize;
                    let bound = 1.0 / (fan_in as f64).sqrt();
                    seed::uniform(seed, Stage::Init, &[i as u64], n)?.f_mul_scalar(bound)?.f_reshape(shape)?
                }
                Role::Constant(value) | Role::Statistic(value) => {
                    Tensor::f_full(shape, value, (Kind::Float, Device::Cpu))?
                }
                Role::Counter => Tensor::f_zeros(shape, (Kind::Int64, Device::Cpu))?,
            };
            tensors.push(placed(&tensor, slot, device, kind)?);
        }
        Ok(Self { slots: slots.to_vec(), tensors, device, kind })
    }

    /// Given tensors, looked up by name.
    ///
    /// # Errors
    /// If one is missing, unknown, of another shape, or not finite; `subject` names the file.
    pub fn from_named(
        slots: &[Slot],
        named: Vec<(String, Tensor)>,
        subject: &str,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        let mut named: std::collections::HashMap<_, _> = named.into_iter().collect();
        let mut tensors = Vec::with_capacity(slots.len());
        for slot in slots {
            let tensor = named
                .remove(&slot.name)
                .ok_or_else(|| Error::request(subject, format!("a tensor {}", slot.name), "none of that name"))?;
            if tensor.size() != slot.shape {
                return Err(Error::request(
                    format!("{subject}: tensor {}", slot.name),
                    format!("shape {:?}, as the configuration says", slot.shape),
                    format!("{:?}", tensor.size()),
                ));
            }
            let floating = matches!(tensor.f_kind()?, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
            if floating != (slot.role != Role::Counter) {
                return Err(Error::request(
                    format!("{subject}: tensor {}", slot.name),
                    if floating { "an integer" } else { "floating-point numbers" },
                    format!("{:?}", tensor.f_kind()?),
                ));
            }
            if floating && tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Err(Error::request(
                    format!("{subject}: tensor {}", slot.name),
                    "finite numbers",
                    "a NaN or an infinity",
                ));
            }
            tensors.push(placed(&tensor, slot, device, kind)?);
        }
        if let Some(name) = named.keys().min() {
            return Err(Error::request(
                subject,
                format!("the {} tensors of the configuration", slots.len()),
                format!("another one, {name}"),
            ));
        }
        Ok(Self { slots: slots.to_vec(), tensors, device, kind })
    }

    /// Replaces its tensors by others of the same shapes, kinds and device.
    pub(super) fn seat(&mut self, tensors: Vec<Tensor>) {
        debug_assert!(tensors.iter().zip(&self.slots).all(|(t, slot)| t.size() == slot.shape));
        self.tensors = tensors;
    }

    /// A second value with the same tensors.
    pub(super) fn share(&self) -> Self {
        let tensors = self.tensors.iter().map(Tensor::shallow_clone).collect();
        Self { slots: self.slots.clone(), tensors, device: self.device, kind: self.kind }
    }

    /// All tensors, in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Name, shape and role of each.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.iter().find(|(slot, _)| slot.name == name).map(|(_, tensor)| tensor)
    }

    /// Each tensor with its slot.
    pub fn iter(&self) -> impl Iterator<Item = (&Slot, &Tensor)> {
        self.slots.iter().zip(&self.tensors)
    }

    /// The trained tensors (handles on the same storage), in order.
    pub fn trained(&self) -> Vec<Tensor> {
        self.iter().filter(|(slot, _)| slot.role.is_trained()).map(|(_, tensor)| tensor.shallow_clone()).collect()
    }

    /// How many numbers are trained.
    pub fn count(&self) -> i64 {
        self.slots.iter().filter(|slot| slot.role.is_trained()).map(|slot| slot.shape.iter().product::<i64>()).sum()
    }

    /// Their device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Kind of the floating-point tensors.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// The tensor on the given device, of the given kind, with its own storage.
fn placed(tensor: &Tensor, slot: &Slot, device: Device, kind: Kind) -> Result<Tensor> {
    let kind = if slot.role == Role::Counter { Kind::Int64 } else { kind };
    Ok(tensor.f_to_kind(kind)?.f_to_device(device)?.f_contiguous()?)
}
