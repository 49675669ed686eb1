//! The page: one HTML file that needs nothing else. It is XML as well, so that any parser can check it.

use super::markup::element;
use super::section::{Section, overview};
use super::study::Study;
use super::words;

/// The hues, sizes and layout of light and dark, phone and desk.
const STYLE: &str = include_str!("style.css");
/// Hover values and the choice of a size. The page is complete without it.
const SCRIPT: &str = include_str!("script.js");
/// Nothing may be fetched: the browser itself then ensures that the page is self-contained.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Composes the page.
pub(super) fn compose(study: &Study, sections: &[Section]) -> String {
    let title = title(study);
    let meta = |name: &'static str, content: &str| element("meta").with("name", name).with("content", content);
    let head = element("head")
        .child(element("meta").with("charset", "utf-8"))
        .child(meta("viewport", "width=device-width, initial-scale=1"))
        .child(meta("color-scheme", "light dark"))
        .child(meta("generator", concat!("pullback ", env!("CARGO_PKG_VERSION"))))
        .child(element("meta").with("http-equiv", "Content-Security-Policy").with("content", POLICY))
        .child(element("title").text(format!("{title} · pullback report")))
        // With its own icon, the browser does not look for one.
        .child(element("link").with("rel", "icon").with("href", "data:,"))
        .child(element("style").verbatim(STYLE));
    let findings: Vec<&(String, String)> = sections.iter().flat_map(|s| &s.findings).collect();
    let mut header = element("header")
        .child(element("p").class("kicker").text("pullback report"))
        .child(element("h1").text(&title))
        .child(element("p").class("lead").text(lead(study)))
        .child(overview::facts(study));
    if !findings.is_empty() {
        let items = findings
            .iter()
            .map(|(words, id)| element("li").child(element("a").with("href", format!("#{id}")).text(words)));
        header.push(
            element("div").class("findings").child(element("h2").text("Findings")).child(element("ul").children(items)),
        );
    }
    let links =
        sections.iter().map(|s| element("li").child(element("a").with("href", format!("#{}", s.id)).text(s.title)));
    let nav = element("nav").with("aria-label", "Sections").child(element("ul").children(links));
    let mut main = element("main");
    for section in sections {
        let mut part = element("section").with("id", section.id).child(element("h2").text(section.title));
        if !section.intro.is_empty() {
            part.push(element("p").class("intro").text(&section.intro));
        }
        main.push(part.children(section.body.iter().cloned()));
    }
    let body = element("body")
        .child(header)
        .child(nav)
        .child(main)
        .child(element("div").with("id", "tip").with("role", "status").with("hidden", "hidden").text(""))
        .child(element("script").verbatim(SCRIPT));
    let html = element("html").with("lang", "en").child(head).child(body);
    format!("<!DOCTYPE html>\n{}\n", html.render())
}

fn title(study: &Study) -> String {
    let mut names: Vec<String> = Vec::new();
    for subject in &study.subjects {
        // A model on several data sets counts as one model.
        let first = study.subjects.iter().find(|a| a.origin.identity() == subject.origin.identity());
        let twins = study.subjects.iter().filter(|a| a.origin.identity() == subject.origin.identity()).count();
        let name = if twins > 1 { words::model(&subject.origin.model).to_owned() } else { subject.name.clone() };
        if first.is_some_and(|a| std::ptr::eq(a, subject)) {
            names.push(name);
        }
    }
    match (names.as_slice(), study.sweeps.len(), study.models()) {
        ([], 0, _) => "Training".to_owned(),
        ([], _, models) => format!("How robust are {models} autoencoders, from small β to large?"),
        ([one], 0, _) => format!("How robust is {one}?"),
        (few, 0, 2..=4) => format!("How robust are {}?", words::list(few)),
        (_, _, models) => format!("How robust are {models} autoencoders?"),
    }
}

fn lead(study: &Study) -> String {
    let mut parts = Vec::new();
    if study.subjects.iter().any(|a| !a.scores.is_empty()) || !study.sweeps.is_empty() {
        parts.push(
            "The pullback metric of a variational autoencoder's encoder tells, image by image, in which directions \
             a small change moves the code most.",
        );
    }
    if study.subjects.iter().any(|a| !a.trials.is_empty()) || !study.sweeps.is_empty() {
        parts.push("Attacks along these directions show what the changes do to code and reconstruction.");
    }
    parts.join(" ")
}
