//! The words on the page for names in files.

use super::figure::AxisScale;
use super::figure::number::subscript;
use crate::store::Quantity;

/// The words for a score or measure.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Its name in the file.
    pub key: &'static str,
    /// A short title.
    pub title: &'static str,
    /// An axis label, with the unit if there is one.
    pub axis: &'static str,
}

/// Scores, in the order of the page.
pub const SCORES: [Words; 10] = [
    words("spectral_radius", "Spectral radius λ₁", "λ₁"),
    words("trace", "Trace", "Σ λᵢ"),
    words("von_neumann_entropy", "Von Neumann entropy", "entropy (nats)"),
    words("entropy_maxnorm", "Entropy, max-normalised", "−Σ sᵢ ln sᵢ,  sᵢ = λᵢ / λ₁"),
    words("effective_rank", "Effective rank", "exp of the entropy (directions)"),
    words("rank", "Rank", "eigenvalues above 10⁻¹⁰ λ₁"),
    words("anisotropy", "Anisotropy", "λ₁ / Σ λᵢ"),
    words("stable_rank", "Stable rank", "Σ λᵢ / λ₁"),
    words("log_det", "Log determinant", "Σ ln λᵢ"),
    words("condition", "Condition number", "λ₁ / smallest counted λ"),
];

/// Measures of an attack or a reconstruction, in the order of the page.
pub const MEASURES: [Words; 11] = [
    words("latent_l2", "Latent shift", "latent shift ‖μ(x′) − μ(x)‖"),
    words("latent_kl", "Latent KL divergence", "KL(q(z|x′) ‖ q(z|x)) (nats)"),
    words("latent_skl", "Latent symmetric KL divergence", "symmetric KL divergence (nats)"),
    words("latent_w2", "Latent Wasserstein distance", "2-Wasserstein distance of posteriors"),
    words("recon_mse", "Reconstruction error", "reconstruction error x̂′ − x (mean square)"),
    words("recon_shift", "Reconstruction shift", "reconstruction shift x̂′ − x̂ (mean square)"),
    words("psnr", "PSNR", "PSNR of x̂′ against x̂ (dB)"),
    words("ssim", "SSIM", "SSIM of x̂′ against x̂"),
    words("ms_ssim", "MS-SSIM", "MS-SSIM of x̂′ against x̂"),
    words("input_l2", "Input change, ℓ₂", "‖x′ − x‖₂"),
    words("input_linf", "Input change, ℓ∞", "‖x′ − x‖∞"),
];

const fn words(key: &'static str, title: &'static str, axis: &'static str) -> Words {
    Words { key, title, axis }
}

/// A score's or measure's title. `singular.<score>` is a score of the singular values, `<metric>.<score>` one by a further metric; a name
/// that the page does not know is shown unchanged.
pub fn title(key: &str) -> String {
    match (find(key), key.split_once('.')) {
        (Some(words), _) => words.title.to_owned(),
        (None, Some(("singular", rest))) => format!("{}, of singular values", title(rest)),
        (None, Some((metric, rest))) => format!("{}, {metric} metric", title(rest)),
        (None, None) => key.replace('_', " "),
    }
}

/// A score's or measure's axis label.
pub fn axis(key: &str) -> String {
    match (find(key), key.split_once('.')) {
        (Some(words), _) => words.axis.to_owned(),
        (None, Some(("singular", rest))) => format!("{}, with √λᵢ for λᵢ", axis(rest)),
        (None, Some((_, rest))) => axis(rest),
        (None, None) => key.replace('_', " "),
    }
}

/// A quantity of a relation in words; `attack` gives an attack's name, which depends on its set.
pub fn quantity(quantity: &Quantity, attack: impl Fn(&str, &str) -> String) -> String {
    match quantity {
        Quantity::Beta => "β".to_owned(),
        Quantity::Score(name) => inline(name),
        Quantity::Damage { set, attack: name, measure } => {
            let of = if set.is_empty() { String::new() } else { format!(" ({set})") };
            format!("{} by {}{of}", inline(measure), attack(set, name))
        }
    }
}

/// The scale of an axis of this score or measure: logarithmic if `values` span more than a decade, unless its range is bounded by
/// definition.
pub fn scale(key: &str, values: &[f64]) -> AxisScale {
    match key.rsplit('.').next().unwrap_or(key) {
        "von_neumann_entropy" | "entropy_maxnorm" | "effective_rank" | "anisotropy" | "rank" | "log_det" => {
            AxisScale::Linear
        }
        _ => AxisScale::suiting(values.iter().copied(), 1.3),
    }
}

/// Position in the order of the page; unknown names come last.
pub fn order(key: &str) -> usize {
    let place = |list: &[Words]| list.iter().position(|w| w.key == key);
    place(&SCORES).or_else(|| place(&MEASURES)).unwrap_or(usize::MAX)
}

/// A title within a sentence: its first letter is small, unless it begins with an abbreviation.
pub fn inline(key: &str) -> String {
    let title = title(key);
    let mut letters = title.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(title.chars().skip(1)).collect()
        }
        _ => title,
    }
}

fn find(key: &str) -> Option<&'static Words> {
    SCORES.iter().chain(&MEASURES).find(|w| w.key == key)
}

/// An attack's name: `u1` is u₁.
pub fn attack(name: &str) -> String {
    attack_along(name, direction(name))
}

/// The name of an attack that steps along the k-th direction: `spectral` on one direction is u₁.
pub fn attack_along(name: &str, k: Option<usize>) -> String {
    match (name, k) {
        (_, Some(k)) => format!("u{}", subscript(k)),
        ("pgd", _) => "PGD".to_owned(),
        ("apgd", _) => "APGD".to_owned(),
        (other, _) => other.replace('_', " "),
    }
}

/// k for an attack along the k-th direction, `u<k>`.
pub fn direction(name: &str) -> Option<usize> {
    name.strip_prefix('u').and_then(|k| k.parse().ok())
}

/// Searches by gradients, usually the strongest first.
const STRONG: [&str; 9] =
    ["suite", "transfer", "suite-transfer", "race", "suite-race", "pgd", "apgd", "spectral-iterated", "spectral"];

/// Whether an attack has this name.
pub fn is_attack(name: &str) -> bool {
    STRONG.contains(&name) || ["random", "square", "minimal", "universal"].contains(&name) || name.starts_with("suite-")
}

/// The usual strength of attacks with this name: 0 for the strongest.
pub fn strength(name: &str) -> usize {
    STRONG.iter().position(|known| *known == name).unwrap_or(if name == "random" { 99 } else { 50 })
}

/// What a flag of an attack file means (docs/flags.md).
pub fn flag(name: &str) -> &'static str {
    match name {
        "not-a-number" => "the goal is not a number",
        "vanishing" => "the gradient vanished on the way",
        "overstepped" => "a proposal was brought back into its budget",
        "rising" => "damage still grows with more passes",
        "falling" => "a larger ε did less damage",
        "boxed" => "the box leaves less than half of ε",
        "bent" => "λ₁ foretells little at the smallest ε",
        "untrained" => "the reconstruction is no better than a grey image",
        other if other.starts_with("weaker-than-") => "an attack that knows less did more",
        _ => "",
    }
}

/// Position of an attack in the order of the page: along directions, gradient attacks, then random ones.
pub fn attack_order(name: &str) -> (usize, usize) {
    match (name, direction(name)) {
        (_, Some(k)) => (0, k),
        ("spectral", _) => (1, 0),
        ("suite", _) => (2, 0),
        ("race" | "pgd", _) => (2, 1),
        ("random", _) => (9, 0),
        _ => (3, 0),
    }
}

/// The axis of sizes.
pub fn size_axis(norm: &str) -> String {
    match norm {
        "" => "size of the perturbation, ε".to_owned(),
        known => format!("size of the perturbation, ε ({})", norm_sign(known)),
    }
}

/// A norm as in formulas.
pub fn norm_sign(norm: &str) -> &str {
    match norm {
        "l2" => "ℓ₂",
        "linf" => "ℓ∞",
        "l1" => "ℓ₁",
        other => other,
    }
}

/// "a", "a and b", "a, b and c".
pub fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Metrics, in the order of the page.
const METRICS: [&str; 6] = ["mean", "stochastic", "fisher", "output", "output-stochastic", "decoder"];

/// Position of a facet in the order of the page: by its metric, then by what follows the metric.
pub fn facet_order(facet: &str) -> (usize, String) {
    let metric = facet.split(',').next().unwrap_or(facet);
    (METRICS.iter().position(|m| *m == metric).unwrap_or(METRICS.len()), facet.to_owned())
}

/// A facet in words: "fisher metric", "fisher metric, 64 images".
pub fn facet(facet: &str) -> String {
    match facet.split_once(',') {
        None if facet.is_empty() => "metric unknown".to_owned(),
        None => format!("{facet} metric"),
        Some((metric, rest)) => format!("{metric} metric,{rest}"),
    }
}

/// A data set's name: the last part of a path.
pub fn dataset(name: &str) -> &str {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or(name)
}

/// A model's name: the folder that holds it, or the file without its extension.
pub fn model(path: &str) -> &str {
    let path = path.trim_end_matches('/').trim_end_matches("/model.safetensors");
    let last = path.rsplit('/').next().unwrap_or(path);
    last.strip_suffix(".pt").or_else(|| last.strip_suffix(".safetensors")).unwrap_or(last)
}
