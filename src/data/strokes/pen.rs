//! From a form to pixels: vary its points, draw a curve through them, place the digit as MNIST does, draw it.
//!
//! Source: Catmull & Rom 1974 in the centripetal form of Yuksel, Schaefer & Keyser 2011 (the curve); LeCun et al. 1998
//! (size-normalised to a box of 20 pixels, centred by mass in 28).

use super::forms::{Form, Knot, Turn};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

type Point = [f32; 2];

/// Steps of the curve between two knots; at 28 pixels a step is then one to two pixels long.
const STEPS: usize = 5;
/// MNIST's image and the box that holds its digit, in pixels. All lengths below are for this image.
const IMAGE: f32 = 28.0;
const BOX: f32 = 20.0;
/// Standard deviation of a knot's displacement, in heights of the digit.
const TREMBLE: f32 = 0.024;
/// Standard deviation of how much a stroke's width changes along it, relative to the width.
const SWING: f32 = 0.18;

/// Draws one of `forms` into `image`, `size` x `size` values that are 0 on entry, in [0, 1] afterwards.
pub fn draw(rng: &mut ChaCha8Rng, forms: &[Form], size: usize, image: &mut [f32]) {
    let form = choose(rng, forms);
    let mut strokes = write(rng, form);
    let radius = (0.20 + 0.23 * normal(rng)).exp().clamp(0.75, 2.3);
    pose(rng, &mut strokes, radius);
    let edge = rng.random_range(1.1..1.6);
    // Width changes along the stroke as the hand presses and lifts.
    let swing = SWING * normal(rng).clamp(-2.0, 2.0);
    let phase = rng.random_range(0.0..std::f32::consts::TAU);
    let scale = size as f32 / IMAGE;
    image.fill(f32::INFINITY);
    for stroke in &strokes {
        let count = stroke.len() as f32;
        let width = |i: usize| radius * (1.0 + swing * (phase + 4.0 * i as f32 / count).sin());
        for (i, ends) in stroke.windows(2).enumerate() {
            let line = Line {
                from: ends[0].map(|v| v * scale),
                to: ends[1].map(|v| v * scale),
                radius: [width(i) * scale, width(i + 1) * scale],
            };
            line.approach(size, edge * scale, image);
        }
    }
    for value in image.iter_mut() {
        *value = ink(*value / (edge * scale));
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    rng.sample::<f32, _>(StandardNormal)
}

fn choose<'a>(rng: &mut ChaCha8Rng, forms: &'a [Form]) -> &'a Form {
    let total: f32 = forms.iter().map(|f| f.share).sum();
    let mut left = rng.random_range(0.0..total);
    for form in forms {
        left -= form.share;
        if left < 0.0 {
            return form;
        }
    }
    &forms[0]
}

/// The form's strokes as polylines, in heights of the digit, with a writer's deviations.
fn write(rng: &mut ChaCha8Rng, form: &Form) -> Vec<Vec<Point>> {
    // A smooth warp of the plane moves nearby points together; then each point moves by itself.
    let mut waves = [[0f32; 5]; 3];
    for wave in &mut waves {
        let [dx, dy, fx, fy] = [(); 4].map(|()| normal(rng));
        *wave = [0.055 * dx, 0.055 * dy, 2.2 * fx, 2.2 * fy, rng.random_range(0.0..std::f32::consts::TAU)];
    }
    let width = form.aspect * (0.16 * normal(rng)).exp();
    let strokes = form.strokes.iter();
    strokes
        .map(|stroke| {
            let mut knots = stroke.to_vec();
            for knot in &mut knots {
                let (x, y) = (knot.x, knot.y);
                for [dx, dy, fx, fy, phase] in waves {
                    let wave = (fx * x + fy * y + phase).sin();
                    knot.x += dx * wave;
                    knot.y += dy * wave;
                }
                knot.x = knot.x * width + TREMBLE * normal(rng);
                knot.y += TREMBLE * normal(rng);
            }
            curve(&knots)
        })
        .collect()
}

/// A centripetal Catmull-Rom curve through the knots, broken at corners.
fn curve(knots: &[Knot]) -> Vec<Point> {
    let point = |i: usize| [knots[i].x, knots[i].y];
    let mut line = vec![point(0)];
    for i in 0..knots.len() - 1 {
        let (p1, p2) = (point(i), point(i + 1));
        // At an end or a corner the curve leaves as if the knot before were this one's mirror image.
        let p0 = match i {
            i if i > 0 && knots[i].turn == Turn::Smooth => point(i - 1),
            _ => [2.0 * p1[0] - p2[0], 2.0 * p1[1] - p2[1]],
        };
        let p3 = match knots.get(i + 2) {
            Some(next) if knots[i + 1].turn == Turn::Smooth => [next.x, next.y],
            _ => [2.0 * p2[0] - p1[0], 2.0 * p2[1] - p1[1]],
        };
        let knot = |a: Point, b: Point| (b[0] - a[0]).hypot(b[1] - a[1]).max(1e-6).sqrt();
        let (d1, d2, d3) = (knot(p0, p1), knot(p1, p2), knot(p2, p3));
        // Tangents at p1 and p2 for a parameter that runs over [0, 1] between them.
        let tangent = |a: Point, b: Point, c: Point, da: f32, db: f32| {
            std::array::from_fn(|k| d2 * ((b[k] - a[k]) / da - (c[k] - a[k]) / (da + db) + (c[k] - b[k]) / db))
        };
        let m1: Point = tangent(p0, p1, p2, d1, d2);
        let m2: Point = tangent(p1, p2, p3, d2, d3);
        for step in 1..=STEPS {
            let t = step as f32 / STEPS as f32;
            let (t2, t3) = (t * t, t * t * t);
            line.push(std::array::from_fn(|k| {
                (2.0 * t3 - 3.0 * t2 + 1.0) * p1[k]
                    + (t3 - 2.0 * t2 + t) * m1[k]
                    + (3.0 * t2 - 2.0 * t3) * p2[k]
                    + (t3 - t2) * m2[k]
            }));
        }
    }
    line
}

/// Leans and turns the digit, fits it into its box and centres its mass, in pixels of a 28 x 28 image.
fn pose(rng: &mut ChaCha8Rng, strokes: &mut [Vec<Point>], radius: f32) {
    let lean = 0.14 + 0.2 * normal(rng);
    let (sin, cos) = (0.07 * normal(rng)).sin_cos();
    for [x, y] in strokes.iter_mut().flatten() {
        let (u, v) = (*x + lean * (0.5 - *y), *y - 0.5);
        (*x, *y) = (cos * u - sin * v, sin * u + cos * v);
    }
    let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
    for point in strokes.iter().flatten() {
        for k in 0..2 {
            low[k] = low[k].min(point[k]);
            high[k] = high[k].max(point[k]);
        }
    }
    let side = (high[0] - low[0]).max(high[1] - low[1]).max(1e-3);
    let scale = (BOX - 2.0 * radius) / side * (1.0 + 0.03 * normal(rng).clamp(-2.0, 2.0));
    let mut mass = [0f32; 3];
    for ends in strokes.iter().flat_map(|s| s.windows(2)) {
        let length = (ends[1][0] - ends[0][0]).hypot(ends[1][1] - ends[0][1]);
        mass[0] += length * 0.5 * (ends[0][0] + ends[1][0]);
        mass[1] += length * 0.5 * (ends[0][1] + ends[1][1]);
        mass[2] += length;
    }
    let centre = [mass[0] / mass[2].max(1e-6), mass[1] / mass[2].max(1e-6)];
    let shift: Point = std::array::from_fn(|k| {
        let wanted = IMAGE / 2.0 - scale * centre[k] + 0.5 * normal(rng);
        // The whole digit stays inside the image, with its widest strokes and their edges, and leaves the rim blank.
        let margin = radius * (1.0 + 2.0 * SWING) + 2.0;
        let (least, most) = (margin - scale * low[k], IMAGE - margin - scale * high[k]);
        wanted.clamp(least.min(most), most.max(least))
    });
    for point in strokes.iter_mut().flatten() {
        for k in 0..2 {
            point[k] = scale * point[k] + shift[k];
        }
    }
}

/// A piece of a stroke, in pixels.
struct Line {
    from: Point,
    to: Point,
    /// Half of the stroke's width at both ends.
    radius: [f32; 2],
}

impl Line {
    /// Lowers each pixel of `image` to its distance from the stroke's edge (negative inside), if that is small.
    fn approach(&self, size: usize, edge: f32, image: &mut [f32]) {
        let reach = self.radius[0].max(self.radius[1]) + edge;
        let span = |k: usize| {
            let low = self.from[k].min(self.to[k]) - reach - 0.5;
            let high = self.from[k].max(self.to[k]) + reach + 0.5;
            (low.max(0.0) as usize).min(size)..(high.max(0.0) as usize).min(size)
        };
        let along = [self.to[0] - self.from[0], self.to[1] - self.from[1]];
        let square = along[0] * along[0] + along[1] * along[1];
        let inverse = if square > 0.0 { square.recip() } else { 0.0 };
        let (columns, lines) = (span(0), span(1));
        for row in lines {
            let v = row as f32 + 0.5 - self.from[1];
            let pixels = &mut image[row * size..(row + 1) * size];
            for (column, pixel) in columns.clone().zip(&mut pixels[columns.clone()]) {
                let u = column as f32 + 0.5 - self.from[0];
                let t = ((u * along[0] + v * along[1]) * inverse).clamp(0.0, 1.0);
                let (du, dv) = (u - t * along[0], v - t * along[1]);
                let radius = self.radius[0] + t * (self.radius[1] - self.radius[0]);
                *pixel = pixel.min((du * du + dv * dv).sqrt() - radius);
            }
        }
    }
}

/// How dark a pixel is at a signed distance from the edge, in edge widths: 1 inside, 0 outside, smooth between.
fn ink(distance: f32) -> f32 {
    let t = (0.5 - distance).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
