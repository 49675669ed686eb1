//! The files read, with their hashes and configurations.

use crate::report::figure::{Cell, Table};
use crate::report::markup::element;
use crate::report::section::Section;
use crate::report::study::Study;

/// The files read, with their hashes and configurations.
pub fn sources(study: &Study) -> Section {
    let mut section = Section { id: "sources", title: "Sources", ..Section::default() };
    let mut table = Table::new(&[
        "file",
        "kind",
        "model",
        "model_sha256",
        "dataset",
        "split",
        "samples",
        "metric",
        "device",
        "precision",
        "seed",
        "version",
        "libtorch",
    ]);
    for o in &study.files {
        table.row([
            (&o.file).into(),
            (&o.kind).into(),
            (&o.model).into(),
            (&o.sha256).into(),
            (&o.dataset).into(),
            (&o.split).into(),
            o.samples.into(),
            (&o.metric).into(),
            (&o.device).into(),
            (&o.precision).into(),
            Cell::Text(o.seed.to_string()),
            (&o.version).into(),
            (&o.libtorch).into(),
        ]);
    }
    section.body.push(table.element());
    for o in study.files.iter().filter(|o| !o.config.trim().is_empty()) {
        section.body.push(
            element("details")
                .class("data")
                .child(element("summary").text(format!("Configuration of {}", o.file)))
                .child(element("pre").with("tabindex", "0").text(o.config.trim_end())),
        );
    }
    section
}
