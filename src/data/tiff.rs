//! What a TIFF file says of its alpha channel, which the decoder does not tell.

/// The tag ExtraSamples, and its value where colours are multiplied by their alpha already ("associated alpha": TIFF 6.0, section 18).
const EXTRA_SAMPLES: usize = 338;
const ASSOCIATED: usize = 1;

/// True for a TIFF file whose first picture has colours that are multiplied by their alpha.
pub fn is_associated(bytes: &[u8]) -> bool {
    extra_sample(bytes) == Some(ASSOCIATED)
}

/// The first of the first picture's extra samples; `None` if there is none, or the file is another.
fn extra_sample(bytes: &[u8]) -> Option<usize> {
    let big_endian = match bytes.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let number = |at: usize, width: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(width)?)?;
        let add = |n: usize, byte: &u8| n << 8 | usize::from(*byte);
        Some(if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    // A directory is a count and entries of 12 bytes: a tag, a type, how many values, and here the values themselves.
    let directory = number(4, 4)?;
    let places = (0..number(directory, 2)?).map(|n| directory + 2 + 12 * n);
    let at = places.take_while(|at| at + 12 <= bytes.len()).find(|at| number(*at, 2) == Some(EXTRA_SAMPLES))?;
    number(at + 8, 2)
}
