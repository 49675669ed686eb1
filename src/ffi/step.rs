//! The step of a projected gradient ascent (kernels/step.cuh) on tensors, on the device or on the host, wherever they lie.

use super::check;
use super::kernels::prepared;
use crate::error::{Error, Result, ensure_shape};
use std::ffi::{c_char, c_int, c_void};
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn pb_take_step(
        x: *mut c_void,
        damage: *mut c_void,
        best: *mut c_void,
        x0: *const c_void,
        gradient: *const c_void,
        value: *const c_void,
        stalled: *mut c_void,
        ball: c_int,
        lengths: *const c_void,
        low: f64,
        high: f64,
    ) -> *const c_char;
}

/// The norm of a ball that a step is projected onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ball {
    /// Euclidean.
    L2,
    /// Largest entry.
    Linf,
    /// Sum of absolute entries.
    L1,
    /// The Euclidean ball's surface, as far as the box lets a step reach it.
    Sphere,
}

/// What all samples of a step share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The norm.
    pub ball: Ball,
    /// Lowest and highest entry, if there is a box.
    pub pixels: Option<(f64, f64)>,
}

impl Step {
    fn code(&self) -> c_int {
        match self.ball {
            Ball::L2 => 0,
            Ball::Linf => 1,
            Ball::L1 => 2,
            Ball::Sphere => 3,
        }
    }

    fn walls(&self) -> (f64, f64) {
        self.pixels.unwrap_or((f64::NEG_INFINITY, f64::INFINITY))
    }
}

/// The state of an ascent. All tensors lie on the device of the clean images and are contiguous.
#[derive(Debug)]
pub struct Iterate<'a> {
    /// The iterate, [B, ...].
    pub x: &'a mut Tensor,
    /// The best iterate so far, of the same shape and kind.
    pub best: &'a mut Tensor,
    /// Its damage, `[B]` f64: NaN at first; any number is larger than NaN.
    pub damage: &'a mut Tensor,
    /// `[B]` bool; becomes true if the gradient is 0 everywhere or not finite somewhere, and is otherwise unchanged.
    pub stalled: &'a mut Tensor,
}

/// One step of a projected gradient ascent within the ball around `x0` [B, ...], f32 or f64: all work on the images, in one pass over them.
/// First the iterate replaces the best where its damage `value` `[B]` f64 is larger. Then it takes a step of the norm along the admissible
/// part of `gradient` [B, ...] and moves into the ball and the box. `lengths` `[2]` f64 are the step's length and the ball's radius.
///
/// # Errors
/// If shapes, kinds or devices differ, or a written tensor is not contiguous.
pub fn take_step(
    iterate: Iterate<'_>,
    x0: &Tensor,
    gradient: &Tensor,
    value: &Tensor,
    lengths: &Tensor,
    step: Step,
) -> Result<()> {
    let like = Like::of(x0)?;
    let Iterate { x, best, damage, stalled } = iterate;
    for (name, images) in [("the perturbed images", &*x), ("the best images", &*best)] {
        like.fits(name, images)?;
        if !images.is_contiguous() {
            return Err(Error::request(format!("layout of {name}"), "contiguous", format!("{:?}", images.stride())));
        }
    }
    let gradient = like.images("the gradient", gradient)?;
    let value = value.f_contiguous()?;
    like.beside("damage of the perturbed images", &value, like.batch(), Kind::Double)?;
    like.beside("damage of the best images", damage, like.batch(), Kind::Double)?;
    like.beside("stalled", stalled, like.batch(), Kind::Bool)?;
    like.beside("lengths of a step and of a ball", lengths, 2, Kind::Double)?;
    let (low, high) = step.walls();
    // SAFETY: images are alive, contiguous, of one shape, kind (f32 or f64) and device, and the rest lies there too, with the shape and
    // kind that the routine takes; each tensor that it writes has its own mutable borrow.
    check("take_step", unsafe {
        pb_take_step(
            x.as_mut_ptr().cast(),
            damage.as_mut_ptr().cast(),
            best.as_mut_ptr().cast(),
            like.x0.as_ptr().cast(),
            gradient.as_ptr().cast(),
            value.as_ptr().cast(),
            stalled.as_mut_ptr().cast(),
            step.code(),
            lengths.as_ptr().cast(),
            low,
            high,
        )
    })
}

/// The properties of the clean images, which all other tensors must share.
struct Like {
    x0: Tensor,
    kind: Kind,
    device: Device,
}

impl Like {
    fn of(x0: &Tensor) -> Result<Self> {
        let x0 = prepared("the clean images", x0)?;
        Ok(Self { kind: x0.f_kind()?, device: x0.device(), x0 })
    }

    fn batch(&self) -> i64 {
        self.x0.size().first().copied().unwrap_or(0)
    }

    /// Whether these are images [B, ...] of the same shape, kind and device.
    fn fits(&self, name: &str, t: &Tensor) -> Result<()> {
        ensure_shape(name, t, &self.x0.size())?;
        self.agrees(name, t, self.kind)
    }

    /// Such images, as contiguous memory.
    fn images(&self, name: &str, t: &Tensor) -> Result<Tensor> {
        self.fits(name, t)?;
        prepared(name, t)
    }

    /// `count` numbers of a kind on the same device, contiguous.
    fn beside(&self, name: &str, t: &Tensor, count: i64, kind: Kind) -> Result<()> {
        ensure_shape(name, t, &[count])?;
        self.agrees(name, t, kind)?;
        if t.is_contiguous() {
            return Ok(());
        }
        Err(Error::request(format!("layout of {name}"), "contiguous", format!("{:?}", t.stride())))
    }

    fn agrees(&self, name: &str, t: &Tensor, kind: Kind) -> Result<()> {
        if t.f_kind()? == kind && t.device() == self.device {
            return Ok(());
        }
        let found = format!("{:?} on {:?}", t.f_kind()?, t.device());
        Err(Error::request(name, format!("{kind:?} on {:?}", self.device), found))
    }
}
