//! Numbers as people read them.

/// `value` with `digits` significant digits, in powers of ten if it is very large or small.
pub fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "undefined".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞".to_owned() } else { "−∞".to_owned() };
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-4..5).contains(&exponent) {
        let mantissa = value / 10f64.powi(exponent);
        let mut text = format!("{:.*}", digits.saturating_sub(1), mantissa);
        let mut exponent = exponent;
        // 9.996 rounds to 10.00, so the decimal point is shifted instead.
        if text.trim_start_matches('-').starts_with("10") {
            exponent += 1;
            text = format!("{:.*}", digits.saturating_sub(1), mantissa / 10.0);
        }
        return minus(format!("{text}×10{}", superscript(exponent)));
    }
    // Whole numbers are more often counts than rounded values.
    let decimals = if value.fract() == 0.0 { 0 } else { (digits as i32 - 1 - exponent).max(0) as usize };
    minus(group(&format!("{value:.decimals$}")))
}

/// Three significant digits: enough to compare, few enough to read.
pub fn short(value: f64) -> String {
    significant(value, 3)
}

/// A value that was chosen, not measured, such as a step size: as short as possible with three digits.
pub fn plain(value: f64) -> String {
    let text = short(value);
    let (mantissa, power) = text.split_once('×').map_or((text.as_str(), ""), |(m, p)| (m, p));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    match (mantissa, power) {
        (_, "") => mantissa.to_owned(),
        ("1", _) => power.to_owned(),
        _ => format!("{mantissa}×{power}"),
    }
}

/// A count with its thousands set apart.
pub fn count(value: usize) -> String {
    group(&value.to_string())
}

/// A share as a whole percentage.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "undefined".to_owned() }
}

/// `exponent` in superscript digits.
pub fn superscript(exponent: i32) -> String {
    exponent
        .to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '4' => '⁴',
            '5' => '⁵',
            '6' => '⁶',
            '7' => '⁷',
            '8' => '⁸',
            '9' => '⁹',
            _ => '⁰',
        })
        .collect()
}

/// `index` in subscript digits: u₁.
pub fn subscript(index: usize) -> String {
    index.to_string().chars().filter_map(|c| c.to_digit(10).and_then(|d| char::from_u32(0x2080 + d))).collect()
}

fn minus(text: String) -> String {
    text.replace('-', "−")
}

/// Separates thousands by a thin space from 10,000 on, as in ISO 80000.
fn group(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |r| ("-", r));
    let (whole, fraction) = rest.split_once('.').map_or((rest, ""), |(w, f)| (w, f));
    let mut out = String::from(sign);
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && whole.len() > 4 && (whole.len() - i) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}
