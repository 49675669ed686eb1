//! A small element tree. Its output is always escaped and well-formed, as HTML and as XML.

use std::fmt::Display;

/// An element with its attributes and children.
#[derive(Clone, Debug)]
pub struct Element {
    tag: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Element(Element),
    Text(String),
    Verbatim(&'static str),
}

/// Elements that never have content, so that they need no end tag.
const VOID: [&str; 10] = ["meta", "link", "input", "br", "img", "path", "circle", "rect", "line", "image"];

/// An element without attributes or content.
pub fn element(tag: &'static str) -> Element {
    Element { tag, attributes: Vec::new(), children: Vec::new() }
}

impl Element {
    /// Adds an attribute.
    pub fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Sets `class`.
    pub fn class(self, names: impl Display) -> Self {
        self.with("class", names)
    }

    /// Appends a child.
    pub fn child(mut self, child: Element) -> Self {
        self.push(child);
        self
    }

    /// Appends children.
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Appends text, escaped when rendered.
    pub fn text(mut self, text: impl Display) -> Self {
        self.children.push(Node::Text(text.to_string()));
        self
    }

    /// Appends our own style sheet or script unchanged: it must not contain `<` or `&`.
    pub(super) fn verbatim(mut self, source: &'static str) -> Self {
        self.children.push(Node::Verbatim(source));
        self
    }

    /// Appends a child in place.
    pub fn push(&mut self, child: Element) {
        self.children.push(Node::Element(child));
    }

    /// The element as a string.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.tag);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(value, out);
            out.push('"');
        }
        if VOID.contains(&self.tag) && self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Element(element) => element.write(out),
                Node::Text(text) => escape(text, out),
                Node::Verbatim(source) => out.push_str(source),
            }
        }
        out.push_str("</");
        out.push_str(self.tag);
        out.push('>');
        if matches!(self.tag, "p" | "tr" | "section" | "figure" | "svg" | "details" | "table" | "style" | "g") {
            out.push('\n');
        }
    }
}

/// Escapes text for content and double-quoted attributes; characters that XML 1.0 forbids become U+FFFD.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{7f}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}
