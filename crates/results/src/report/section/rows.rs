//! Rows of pictures, a strip a row, as galleries and directions of runs and sweeps have them.

use crate::error::Result;
use crate::report::figure::{Panel, Picture, Tone, number, strip};
use crate::report::markup::{Element, element};
use crate::report::study::Sample;

/// What is said of directions drawn as pictures.
pub(super) const DIRECTIONS: &str = "Unit directions in the space of images, v₁ the most sensitive. Blue pixels darken, \
                                     red ones brighten; each picture has its own scale, and its sign is a convention.";

/// A panel in the making.
pub(super) struct Rows {
    name: String,
    body: Element,
    marks: usize,
}

impl Rows {
    /// No rows yet, under the heading `name`.
    pub fn new(name: &str) -> Self {
        let body = element("div").class("subject").child(element("h4").text(name));
        Self { name: name.to_owned(), body, marks: 0 }
    }

    /// A heading between rows.
    pub fn heading(&mut self, words: &str) {
        self.body.push(element("h5").text(words));
    }

    /// A row: its label, its pictures, what touching each tells and what is said of all. Where it belongs to one of
    /// several sizes, all but the largest wait to be picked.
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

/// Buttons that choose the size of the attack; the largest is on show at first.
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
