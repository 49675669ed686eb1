//! Whether all numbers of a tensor are finite, without an operation of libtorch: for small tensors starting one is most of the work.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// True if every number of `t`, f32 or f64 on the CPU, is finite.
///
/// # Errors
/// If libtorch fails: tensors of other kinds, on a device or in pieces are asked by its operations, which wait for a device.
pub fn all_finite(t: &Tensor) -> Result<bool> {
    let held = t.device() == Device::Cpu && t.is_contiguous();
    match t.f_kind()? {
        // SAFETY: a contiguous tensor on the CPU has `numel` numbers of its kind from `data_ptr` on; they are only read, while `t` lives.
        Kind::Float if held => Ok(unsafe { numbers::<f32>(t) }.iter().all(|number| number.is_finite())),
        // SAFETY: as above.
        Kind::Double if held => Ok(unsafe { numbers::<f64>(t) }.iter().all(|number| number.is_finite())),
        _ => Ok(t.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1),
    }
}

/// # Safety
/// `t` is contiguous, on the CPU, and of the kind `T`.
unsafe fn numbers<T>(t: &Tensor) -> &[T] {
    match t.numel() {
        0 => &[],
        // SAFETY: as the caller says; the pointer of a tensor that has numbers is not null.
        count => unsafe { std::slice::from_raw_parts(t.data_ptr().cast::<T>(), count) },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_not_finite_is_found_wherever_it_is() {
        for kind in [Kind::Float, Kind::Double] {
            let zeros = Tensor::zeros([3, 4], (kind, Device::Cpu));
            assert!(all_finite(&zeros).unwrap() && all_finite(&zeros.narrow(0, 0, 0)).unwrap());
            for lost in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for place in 0..12 {
                    let t = zeros.copy();
                    let _ = t.view([12]).narrow(0, place, 1).fill_(lost);
                    assert!(!all_finite(&t).unwrap() && !all_finite(&t.transpose(0, 1)).unwrap());
                }
            }
        }
        assert!(all_finite(&Tensor::from_slice(&[1i64, 2])).unwrap());
    }
}
