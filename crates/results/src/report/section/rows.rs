//! Rows of pictures, each one strip, for galleries and directions of runs and sweeps.

use crate::error::Result;
use crate::report::figure::{Panel, Picture, Tone, number, strip};
use crate::report::markup::{Element, element};
use crate::report::study::Sample;

/// The text about directions that are drawn as pictures.
pub(super) const DIRECTIONS: &str = "Unit directions in the space of images, v₁ the most sensitive. Blue pixels darken, \
                                     red ones brighten; each picture has its own scale, and its sign is a convention.";

/// A panel while it is built.
pub(super) struct Rows {
    name: String,
    body: Element,
    marks: usize,
}

impl Rows {
    /// A panel without rows, under the heading `name`.
    pub fn new(name: &str) -> Self {
        let body = element("div").class("subject").child(element("h4").text(name));
        Self { name: name.to_owned(), body, marks: 0 }
    }

    /// A heading between rows.
    pub fn heading(&mut self, words: &str) {
        self.body.push(element("h5").text(words));
    }

    /// A row: its label, its pictures, the text of each that is shown on hovering, and a text about all. If it belongs to one of several
    /// sizes, it is hidden until that size is chosen; only the largest size is visible at first.
    pub fn add(&mut self, label: &str, look: Look<'_>, size: Option<(usize, usize)>) -> Result<()> {
        if look.pictures.is_empty() {
            return Ok(());
        }
        let drawn = strip(look.pictures, &look.tips, look.tone, &format!("{}: {}", self.name, look.spoken))?;
        self.marks += drawn.marks;
        let row = element("div").class("row").child(element("span").class("rl").text(label)).child(drawn.body);
        self.body.push(match size {
            Some((at, of)) if at + 1 < of => row.with("data-e", at).with("hidden", "hidden"),
            Some((at, _)) => row.with("data-e", at),
            None => row,
        });
        Ok(())
    }

    /// The panel.
    pub fn panel(self) -> Panel {
        Panel { body: self.body, marks: self.marks }
    }
}

/// The pictures of a row.
pub(super) struct Look<'a> {
    pub pictures: &'a [Picture],
    pub tips: Vec<String>,
    pub tone: Tone,
    pub spoken: String,
}

impl<'a> Look<'a> {
    /// Photographs.
    pub fn photos(pictures: &'a [Picture], tips: Vec<String>, spoken: String) -> Self {
        Self { pictures, tips, tone: Tone::Photo, spoken }
    }

    /// Directions: signed pictures.
    pub fn signed(pictures: &'a [Picture], tips: Vec<String>, spoken: String) -> Self {
        Self { pictures, tips, tone: Tone::Signed, spoken }
    }
}

/// Buttons that choose the size of the attack; the largest is shown at first.
pub(super) fn picker(eps: &[f64], name: &str, symbol: &str) -> Vec<Element> {
    if eps.len() < 2 {
        return vec![];
    }
    let buttons = eps.iter().enumerate().map(|(i, size)| {
        let input = element("input").with("type", "radio").with("name", format!("pick-{name}")).with("value", i);
        let input = if i + 1 == eps.len() { input.with("checked", "checked") } else { input };
        element("label").child(input).child(element("span").text(number::plain(*size)))
    });
    vec![
        element("fieldset")
            .class("pick")
            .child(element("legend").text(format!("Size of the attack, {symbol}")))
            .children(buttons),
    ]
}

/// "image 17, class 3".
pub(super) fn sample_words(sample: &Sample) -> String {
    match sample.label {
        Some(label) => format!("image {}, class {label}", sample.index),
        None => format!("image {}", sample.index),
    }
}
