//! Size and colour of a PNG or JPEG file from its header alone: the whole folder is checked before it is read.

use crate::data::rows::wrong;
use crate::error::{Error, Result};
use image::ImageFormat;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// What is read; shown for a file that is none of them.
const KINDS: &str = "a picture (PNG, JPEG, BMP, GIF, TIFF, WebP, PNM)";

/// What a header states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureHeader {
    /// H in pixels.
    pub height: u32,
    /// W in pixels.
    pub width: u32,
    /// Grey or colour.
    pub colour: Colour,
    /// Whether pixels may be transparent.
    pub alpha: bool,
    /// Whether values have 16 bits.
    pub wide: bool,
}

/// Whether pixels have colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// One value for each pixel.
    Grey,
    /// Three values for each pixel.
    Rgb,
    /// Four inks for each pixel. Decoders disagree on whether Adobe's programs write them inverted, so that the colours are unknown.
    Cmyk,
}

/// PNG or JPEG, by the first bytes.
pub fn format(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Some(ImageFormat::Jpeg)
    } else {
        None
    }
}

/// Reads the header of the PNG or JPEG file at `path`; `None` for other pictures.
pub fn probe(path: &Path) -> Result<Option<PictureHeader>> {
    let broken = |e: std::io::Error| match e.kind() {
        ErrorKind::UnexpectedEof => wrong(path, "a whole picture", "a file that ends in its header"),
        _ => Error::io(path, e),
    };
    let mut file = BufReader::with_capacity(4096, File::open(path).map_err(|e| Error::io(path, e))?);
    let mut start = [0u8; 8];
    file.read_exact(&mut start).map_err(broken)?;
    let header = match format(&start) {
        Some(ImageFormat::Png) => png(&mut file),
        Some(_) => file.seek(SeekFrom::Start(2)).and_then(|_| jpeg(&mut file)),
        None if image::guess_format(&start).is_ok() || start.starts_with(b"RIFF") => return Ok(None),
        None => return Err(wrong(path, KINDS, format!("a file that begins with bytes {start:02x?}"))),
    };
    match header.map_err(broken)? {
        Some(header) if header.height > 0 && header.width > 0 => {
            if header.colour == Colour::Cmyk {
                let found = "four components, CMYK or YCCK (convert it: magick OLD.jpg -colorspace sRGB NEW.jpg)";
                return Err(wrong(path, "a JPEG image in grey or RGB", found));
            }
            Ok(Some(header))
        }
        _ => Err(wrong(path, "a PNG or JPEG image", "a header that makes no sense")),
    }
}

/// The IHDR chunk, which must be first by the standard, then those before the pixels: the palette and its transparency.
fn png(file: &mut (impl Read + Seek)) -> std::io::Result<Option<PictureHeader>> {
    let mut chunk = [0u8; 18];
    file.read_exact(&mut chunk)?;
    let [_, _, _, _, b'I', b'H', b'D', b'R', w0, w1, w2, w3, h0, h1, h2, h3, depth, kind] = chunk else {
        return Ok(None);
    };
    let (mut colour, mut alpha) = match kind {
        0 => (Colour::Grey, false),
        2 | 3 => (Colour::Rgb, false),
        4 => (Colour::Grey, true),
        6 => (Colour::Rgb, true),
        _ => return Ok(None),
    };
    // The rest of IHDR and its checksum.
    file.seek_relative(3 + 4)?;
    let mut head = [0u8; 8];
    while file.read_exact(&mut head).is_ok() && &head[4..] != b"IDAT" {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if &head[4..] == b"PLTE" && kind == 3 && length <= 768 {
            let mut palette = vec![0; length as usize];
            file.read_exact(&mut palette)?;
            if palette.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]) {
                colour = Colour::Grey;
            }
            file.seek_relative(4)?;
            continue;
        }
        alpha |= &head[4..] == b"tRNS";
        file.seek_relative(i64::from(length) + 4)?;
    }
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    Ok(Some(PictureHeader { height, width, colour, alpha, wide: depth == 16 }))
}

/// The frame header (SOF), found by stepping from segment to segment.
fn jpeg(file: &mut (impl Read + Seek)) -> std::io::Result<Option<PictureHeader>> {
    while let Some((marker, length)) = segment(file)? {
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let mut frame = [0u8; 6];
                file.read_exact(&mut frame)?;
                let [_, h0, h1, w0, w1, components] = frame;
                let colour = match components {
                    1 => Colour::Grey,
                    4 => Colour::Cmyk,
                    _ => Colour::Rgb,
                };
                let (height, width) = (u16::from_be_bytes([h0, h1]), u16::from_be_bytes([w0, w1]));
                let (height, width) = (height.into(), width.into());
                return Ok(Some(PictureHeader { height, width, colour, alpha: false, wide: false }));
            }
            0xda => return Ok(None),
            _ => file.seek_relative(i64::from(length))?,
        }
    }
    Ok(None)
}

/// The next segment's marker and its length without the length field; `None` if there is no segment.
fn segment(file: &mut impl Read) -> std::io::Result<Option<(u8, u16)>> {
    let mut two = [0u8; 2];
    file.read_exact(&mut two)?;
    let [0xff, mut marker] = two else { return Ok(None) };
    while marker == 0xff {
        // Fill bytes may stand before a marker.
        let mut one = [0u8; 1];
        file.read_exact(&mut one)?;
        marker = one[0];
    }
    file.read_exact(&mut two)?;
    Ok(u16::from_be_bytes(two).checked_sub(2).map(|length| (marker, length)))
}

/// True if a JPEG's pixels end with an end marker. Decoders fill the rest of a cut file with grey and report no error.
pub fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut rest = std::io::Cursor::new(bytes.get(2..).unwrap_or_default());
    while let Ok(Some((marker, length))) = segment(&mut rest) {
        let next = rest.position() as usize + usize::from(length);
        if marker == 0xda {
            // In the code of the pixels 0 or a restart marker follows 0xff, so that this pair marks their end.
            return bytes.get(2 + next..).is_some_and(|data| data.windows(2).any(|pair| pair == [0xff, 0xd9]));
        }
        rest.set_position(next as u64);
    }
    false
}
