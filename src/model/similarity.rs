//! Similarity of two images with values in [0, 1]: PSNR, SSIM, MS-SSIM; `[B]` f64, larger = more alike.
//!
//! Source: Wang, Bovik, Sheikh & Simoncelli 2004 (SSIM); Wang, Simoncelli & Bovik 2003 (MS-SSIM); details as in the
//! package pytorch-msssim: Gaussian window of 11 pixels, sigma 1.5, valid positions only, K = (0.01, 0.03), data range 1.
//! Differs: MS-SSIM needs sides above 160 for its five scales. A smaller image is compared on the scales on which its shorter side has at
//! least 11 pixels (28 and 32: two; 64: three), with the first weights scaled to sum 1. An image below 11 pixels gets the largest odd
//! window that fits.

use crate::error::{Error, Result, ensure_shape};
use crate::ops::Reduce;
use tch::{Device, Kind, Tensor};

const WINDOW: i64 = 11;
const SIGMA: f64 = 1.5;
/// The longest axis that is filtered by a product with a band matrix, whose size grows with the square of the axis.
const LONGEST_BAND: i64 = 512;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;
/// Weights of the scales, fine to coarse.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// 10 log10(1 / mean square difference) in dB; infinite if the images are equal.
pub fn psnr(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = pair(a, b)?;
    let mse = a.f_sub(&b)?.f_square()?.mean_over([1, 2, 3])?;
    Ok(mse.f_log10()?.f_mul_scalar(-10.0)?)
}

/// Structural similarity of `a` and `b` [B, C, H, W]: mean over positions and channels.
pub fn ssim(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = pair(a, b)?;
    let (full, _) = compare(&a, &b)?;
    full.mean_over([1])
}

/// Multi-scale structural similarity of `a` and `b` [B, C, H, W]: the product over scales for each channel, negative
/// factors taken as 0, then the mean over channels.
pub fn ms_ssim(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(both(a, b)?.1)
}

/// [`ssim`] and [`ms_ssim`], whose finest scale is the other's only one.
pub fn both(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let (mut a, mut b) = pair(a, b)?;
    let (height, width) = sides(&a);
    let scales = scales(height.min(width));
    let total: f64 = WEIGHTS[..scales].iter().sum();
    let (mut finest, mut product): (Option<Tensor>, Option<Tensor>) = (None, None);
    for (scale, weight) in WEIGHTS[..scales].iter().enumerate() {
        let (full, contrast) = compare(&a, &b)?;
        if scale == 0 {
            finest = Some(full.mean_over([1])?);
        }
        let last = scale + 1 == scales;
        let factor = if last { full } else { contrast }.f_relu()?.f_pow_tensor_scalar(weight / total)?;
        product = Some(match product {
            Some(p) => p.f_mul(&factor)?,
            None => factor,
        });
        if !last {
            (a, b) = (halve(&a)?, halve(&b)?);
        }
    }
    // There is at least one scale.
    let none = || Error::internal("model::similarity", "no scale");
    Ok((finest.ok_or_else(none)?, product.ok_or_else(none)?.mean_over([1])?))
}

/// The number of scales for an image with this shorter side.
pub fn scales(side: i64) -> usize {
    let halvings = std::iter::successors(Some(side), |s| Some((s + 1) / 2)).take(WEIGHTS.len());
    halvings.take_while(|s| *s >= WINDOW).count().max(1)
}

/// Both images in f64, shapes checked.
fn pair(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    ensure_shape("the first image", a, &[-1, -1, -1, -1])?;
    ensure_shape("the second image", b, &a.size())?;
    Ok((a.f_to_kind(Kind::Double)?, b.f_to_kind(Kind::Double)?))
}

fn sides(a: &Tensor) -> (i64, i64) {
    match a.size()[..] {
        [.., height, width] => (height, width),
        _ => (0, 0),
    }
}

/// Mean SSIM and mean contrast-structure term over the positions, [B, C] each.
fn compare(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let (height, width) = sides(a);
    let window = odd(WINDOW.min(height).min(width));
    let moments = [a, b, &a.f_square()?, &b.f_square()?, &a.f_mul(b)?];
    // The window is separable.
    let smooth = filtered(filtered(Tensor::f_stack(&moments, 0)?, -2, window)?, -1, window)?;
    let [ma, mb, maa, mbb, mab] = [0, 1, 2, 3, 4].map(|i| smooth.f_select(0, i));
    let (ma, mb) = (ma?, mb?);
    let (square_a, square_b, cross) = (ma.f_square()?, mb.f_square()?, ma.f_mul(&mb)?);
    let var_a = maa?.f_sub(&square_a)?;
    let var_b = mbb?.f_sub(&square_b)?;
    let covariance = mab?.f_sub(&cross)?;
    let contrast = ratio(&covariance, &var_a.f_add(&var_b)?, C2)?;
    let luminance = ratio(&cross, &square_a.f_add(&square_b)?, C1)?;
    let over = |map: &Tensor| map.mean_over([2, 3]);
    Ok((over(&luminance.f_mul(&contrast)?)?, over(&contrast)?))
}

/// (2 a + c) / (b + c).
fn ratio(a: &Tensor, b: &Tensor, c: f64) -> Result<Tensor> {
    Ok(a.f_mul_scalar(2.0)?.f_add_scalar(c)?.f_div(&b.f_add_scalar(c)?)?)
}

/// The largest odd number <= n, at least 1.
fn odd(n: i64) -> i64 {
    (n - 1 + n % 2).max(1)
}

/// The weights of a Gaussian window, which sum to 1.
fn gaussian(window: i64) -> Vec<f64> {
    let centre = (window / 2) as f64;
    let weights: Vec<f64> = (0..window).map(|i| (-(i as f64 - centre).powi(2) / (2.0 * SIGMA * SIGMA)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// `maps` [..., H, W] filtered along rows (axis -1) or columns (-2), at the valid positions.
fn filtered(maps: Tensor, axis: i64, window: i64) -> Result<Tensor> {
    let (height, width) = sides(&maps);
    let length = if axis == -1 { width } else { height };
    // Vectors and series of one value a step have nothing to filter.
    if window == 1 {
        return Ok(maps);
    }
    if length <= LONGEST_BAND {
        // A small product: exact in f64 on every device.
        let band = band(length, window, maps.device())?;
        return Ok(if axis == -1 { maps.f_matmul(&band.f_transpose(0, 1)?)? } else { band.f_matmul(&maps)? });
    }
    let valid = length - window + 1;
    let mut sum: Option<Tensor> = None;
    for (i, weight) in gaussian(window).into_iter().enumerate() {
        let part = maps.f_narrow(axis, i as i64, valid)?.f_mul_scalar(weight)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&part)?,
            None => part,
        });
    }
    Ok(sum.unwrap_or(maps))
}

/// Gaussian filtering of a line of `n` pixels at its valid positions, as a matrix [n - window + 1, n].
fn band(n: i64, window: i64, device: Device) -> Result<Tensor> {
    let weights = gaussian(window);
    let valid = (n - window + 1).max(0);
    let mut matrix = vec![0f64; (valid * n) as usize];
    for row in 0..valid as usize {
        for (i, w) in weights.iter().enumerate() {
            matrix[row * n as usize + row + i] = *w;
        }
    }
    Ok(Tensor::f_from_slice(&matrix)?.f_reshape([valid, n])?.f_to_device(device)?)
}

/// Mean over 2 x 2 pixels; an odd side gets a margin of zeros on both ends, as in pytorch-msssim.
fn halve(a: &Tensor) -> Result<Tensor> {
    let (height, width) = sides(a);
    Ok(a.f_avg_pool2d([2, 2], [2, 2], [height % 2, width % 2], false, true, None)?)
}
