//! Images side by side as one PNG within an SVG; each shows a text on hovering.

use super::Panel;
use crate::error::{Error, Result};
use crate::report::markup::element;
use base64::Engine;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

/// One image, channels first.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// C, 1 or 3.
    pub channels: usize,
    /// H in pixels.
    pub height: usize,
    /// W in pixels.
    pub width: usize,
    /// C*H*W values.
    pub values: Vec<f32>,
}

/// How values become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// [0, 1] becomes black to white, or the three primaries.
    Photo,
    /// Signed values, each picture scaled by its largest magnitude: blue negative, white zero, red positive.
    /// Three channels are shown as their sum.
    Signed,
}

/// Anchors of the diverging map from -1 to 1 (RdBu of ColorBrewer, safe for the colour-blind).
const DIVERGING: [[f32; 3]; 7] = [
    [33.0, 102.0, 172.0],
    [103.0, 169.0, 207.0],
    [209.0, 229.0, 240.0],
    [247.0, 247.0, 247.0],
    [253.0, 219.0, 199.0],
    [239.0, 138.0, 98.0],
    [178.0, 24.0, 43.0],
];

impl Picture {
    /// The largest magnitude of a value.
    pub fn peak(&self) -> f64 {
        f64::from(self.values.iter().fold(0.0f32, |a, v| a.max(v.abs())))
    }

    /// The colour at (row, column).
    fn rgb(&self, row: usize, column: usize, tone: Tone, largest: f32) -> [u8; 3] {
        let plane = self.height * self.width;
        let at = |c: usize| self.values.get(c * plane + row * self.width + column).copied().unwrap_or(f32::NAN);
        match tone {
            Tone::Photo => {
                let level = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
                if self.channels >= 3 { [level(at(0)), level(at(1)), level(at(2))] } else { [level(at(0)); 3] }
            }
            Tone::Signed => {
                let sum: f32 = (0..self.channels).map(at).sum();
                diverging(sum / largest)
            }
        }
    }

    /// The largest magnitude of the sum over channels; 1 if all are zero.
    fn largest(&self) -> f32 {
        let plane = self.height * self.width;
        let sums =
            (0..plane).map(|i| (0..self.channels).filter_map(|c| self.values.get(c * plane + i)).sum::<f32>().abs());
        let largest = sums.filter(|v| v.is_finite()).fold(0.0, f32::max);
        if largest > 0.0 { largest } else { 1.0 }
    }
}

fn diverging(value: f32) -> [u8; 3] {
    if !value.is_finite() {
        return [255, 0, 255]; // a colour that the map never has
    }
    let place = (value.clamp(-1.0, 1.0) + 1.0) / 2.0 * (DIVERGING.len() - 1) as f32;
    let below = (place.floor() as usize).min(DIVERGING.len() - 2);
    let weight = place - below as f32;
    let mix = |i: usize| (DIVERGING[below][i] * (1.0 - weight) + DIVERGING[below + 1][i] * weight).round() as u8;
    [mix(0), mix(1), mix(2)]
}

/// A row of pictures of one size with small transparent gaps; `tips` say what each is.
///
/// # Errors
/// [`Error::Request`] if pictures differ in size or hold too few values; an encoder's failure.
pub fn strip(pictures: &[Picture], tips: &[String], tone: Tone, spoken: &str) -> Result<Panel> {
    let Some(first) = pictures.first() else {
        return Ok(Panel { body: element("svg"), marks: 0 });
    };
    let (height, width) = (first.height, first.width);
    for picture in pictures {
        let expected = picture.channels * height * width;
        if (picture.height, picture.width) != (height, width) || picture.values.len() != expected {
            return Err(Error::request(
                "pictures of one row",
                format!("{height} x {width} pixels each"),
                format!("{} x {} pixels with {} values", picture.height, picture.width, picture.values.len()),
            ));
        }
    }
    let gap = (width / 14).max(1);
    let total = pictures.len() * (width + gap) - gap;
    let mut rgba = vec![0u8; total * height * 4];
    for (i, picture) in pictures.iter().enumerate() {
        let largest = if tone == Tone::Signed { picture.largest() } else { 1.0 };
        for row in 0..height {
            for column in 0..width {
                let [r, g, b] = picture.rgb(row, column, tone, largest);
                let at = 4 * (row * total + i * (width + gap) + column);
                rgba[at..at + 4].copy_from_slice(&[r, g, b, 255]);
            }
        }
    }
    let mut svg = element("svg")
        .class("strip")
        .with("viewBox", format!("0 0 {total} {height}"))
        .with("role", "img")
        .with("aria-label", spoken)
        .child(element("desc").text(format!("{} pictures in a row", pictures.len())))
        .child(
            element("image")
                .with("width", total)
                .with("height", height)
                .with("href", format!("data:image/png;base64,{}", png(&rgba, total, height)?)),
        );
    for (i, tip) in tips.iter().enumerate().take(pictures.len()) {
        svg.push(
            element("rect")
                .class("h z")
                .with("x", i * (width + gap))
                .with("y", 0)
                .with("width", width)
                .with("height", height)
                .with("data-t", tip),
        );
    }
    Ok(Panel { body: svg, marks: pictures.len() })
}

/// RGBA (or grey and alpha, if there is no colour) to PNG in base64.
fn png(rgba: &[u8], width: usize, height: usize) -> Result<String> {
    let pixels = rgba.chunks_exact(4);
    let grey = pixels.clone().all(|p| p[0] == p[1] && p[1] == p[2]);
    let (bytes, colour) = if grey {
        (pixels.flat_map(|p| [p[0], p[3]]).collect(), ExtendedColorType::La8)
    } else {
        (rgba.to_vec(), ExtendedColorType::Rgba8)
    };
    let mut out = Vec::new();
    PngEncoder::new_with_quality(&mut out, CompressionType::Best, FilterType::Adaptive)
        .write_image(&bytes, width as u32, height as u32, colour)
        .map_err(|e| Error::internal("PNG encoder", e.to_string()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(out))
}
