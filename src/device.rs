//! Device choice, precision, memory budget, synchronisation.

use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi::cuda;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Once;
use tch::Device;

/// Where to compute, as the user writes it: `auto`, `cpu`, `cuda`, `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// CUDA where libtorch sees a device, else the CPU.
    #[default]
    Auto,
    /// The host.
    Cpu,
    /// CUDA device N.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| Error::request("device", "auto, cpu, cuda or cuda:N", text)),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> String {
        choice.to_string()
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl DeviceChoice {
    /// The choice of process `local` (from 0) among several on one machine: where the user left it open, each takes a device of its own, as
    /// far as there are so many.
    pub fn of_local(self, local: usize) -> Self {
        self.among(local, cuda::found().devices)
    }

    /// [`DeviceChoice::of_local`] on a machine with so many devices.
    fn among(self, local: usize, seen: usize) -> Self {
        match (self, seen) {
            (Self::Auto, 1..) => Self::Cuda(local % seen),
            _ => self,
        }
    }

    /// [`DeviceChoice::resolve`] of a run, with one warning in a process where `auto` becomes the CPU although a driver is installed (too
    /// old a one, for instance).
    pub fn resolve_told(self, observer: &dyn Observer) -> Result<Device> {
        static TOLD: Once = Once::new();
        if let (Self::Auto, Some(trouble)) = (self, &cuda::found().trouble) {
            TOLD.call_once(|| observer.on(Event::Warning(&format!("{trouble}; computing on the CPU"))));
        }
        self.resolve()
    }

    /// The device that is meant; it is checked to exist.
    pub fn resolve(self) -> Result<Device> {
        let cuda::Found { devices: seen, trouble } = cuda::found();
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if *seen > 0 { Device::Cuda(0) } else { Device::Cpu }),
            Self::Cuda(n) if n < *seen => Ok(Device::Cuda(n)),
            Self::Cuda(n) => Err(Error::request(
                format!("device cuda:{n}"),
                "a CUDA device that libtorch sees",
                match seen {
                    0 => trouble.as_ref().map_or_else(|| "none".to_owned(), |trouble| format!("none ({trouble})")),
                    1 => "only cuda:0".to_owned(),
                    s => format!("cuda:0 to cuda:{}", s - 1),
                },
            )),
        }
    }
}

/// A device's name in files and reports: `cpu`, `cuda:0`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(n) => format!("cuda:{n}"),
        _ => "cpu".to_owned(),
    }
}

/// Waits until all work that this thread queued on `device` is done; on the CPU there is nothing to wait for. It does not wait for other
/// threads: waiting for the whole device breaks a graph that another thread is capturing.
///
/// # Errors
/// The errors of the work, which a device reports only to a thread that waits for it.
pub fn synchronize(device: Device) -> Result<()> {
    match device {
        Device::Cuda(n) => crate::ffi::wait(n),
        _ => Ok(()),
    }
}

/// Bytes that a computation on `device` may take. On CUDA: four fifths of the device's free memory, which includes idle memory of
/// libtorch's allocator. On the CPU: half of what the host has left for this process ([`crate::memory`]).
///
/// # Errors
/// If there is no such CUDA device.
pub fn memory_budget(device: Device) -> Result<u64> {
    match device {
        Device::Cuda(n) => crate::ffi::memory::cuda_memory(n).map(|(free, _)| free / 5 * 4),
        _ => Ok(crate::memory::left().unwrap_or(2 << 30) / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice::{Auto, Cpu, Cuda};

    #[test]
    fn processes_of_one_machine_take_its_devices_in_turn() {
        let taken = |seen| [0, 1, 2, 3, 4].map(|local| Auto.among(local, seen));
        assert_eq!(taken(2), [0, 1, 0, 1, 0].map(Cuda));
        assert_eq!(taken(8), [0, 1, 2, 3, 4].map(Cuda));
        // Without a device all compute on the host.
        assert_eq!(taken(0), [Auto; 5]);
        // What the user has chosen stays.
        assert_eq!((Cpu.among(3, 2), Cuda(1).among(2, 2)), (Cpu, Cuda(1)));
    }
}
