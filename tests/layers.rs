//! Which way imports go: as docs/architecture.md says, and in no circle.

mod files; //  who names whom
mod tokens; // a source file as words and signs

use crate::files::root;
use files::{Edges, Sources};
use std::collections::{BTreeMap, BTreeSet};

/// Files that know each other all the same, as (who, whom) of the arrows that would have to go: an attack's victim keeps the loops that
/// run on it and asks the goal for what it costs, and both are told of the victim.
const KNOWN: [(&str, &str); 2] = [("attack::loops", "attack::victim"), ("attack::goal", "attack::victim")];

/// The rooms by their layers, from a line such as "`a b` < `c`" of a document; the first layer is 0.
fn layers(text: &str) -> BTreeMap<String, usize> {
    let layers = text.split(" < ").enumerate();
    layers.flat_map(|(at, rooms)| names(rooms).into_iter().map(move |room| (room, at))).collect()
}

/// What stands between backquotes, word by word.
fn names(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.flat_map(|words| words.split([' ', ',']).filter(|w| !w.is_empty()).map(str::to_owned)).collect()
}

/// The arrows between rooms that go up or sideways.
fn upward(edges: &Edges, layers: &BTreeMap<String, usize>) -> Vec<String> {
    let room = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let wrong = edges.iter().filter(|((from, to), _)| {
        let (from, to) = (room(from), room(to));
        // lib.rs shows all.
        from != to && !from.is_empty() && layers.get(&to) >= layers.get(&from)
    });
    wrong.map(|((from, to), paths)| format!("{from} -> {to} by {paths:?}")).collect()
}

/// The arrows between files that lie on a circle.
fn circles(edges: &Edges) -> Vec<(String, String)> {
    let reached = |start: &str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![start.to_owned()]);
        while let Some(at) = left.pop() {
            let next = edges.keys().filter(|(from, _)| *from == at).map(|(_, to)| to.clone());
            left.extend(next.filter(|to| seen.insert(to.clone())));
        }
        seen
    };
    let back = |(from, to): &&(String, String)| reached(to).contains(from);
    edges.keys().filter(back).cloned().collect()
}

/// The paragraphs of the document that tell the order: the engine's rooms, the results'.
fn documented() -> [BTreeMap<String, usize>; 2] {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let section = text.split("## Layers").nth(1).unwrap().split("\n## ").next().unwrap().replace('\n', " ");
    let mut orders = section.split(". ").filter(|sentence| sentence.contains("` < `"));
    [(); 2].map(|()| layers(orders.next().unwrap()))
}

fn crates() -> [(&'static str, Sources); 2] {
    ["src", "crates/results/src"].map(|folder| (folder, Sources::read(&root().join(folder))))
}

#[test]
fn every_room_uses_only_what_stands_before_it() {
    for ((folder, sources), layers) in crates().into_iter().zip(documented()) {
        let rooms = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for room in rooms.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()) {
            let told = layers.contains_key(&room) || ["lib", "main"].contains(&room.as_str());
            assert!(told, "docs/architecture.md does not say where {folder}/{room} stands: {layers:?}");
        }
        let edges = sources.edges();
        assert!(edges.len() > 50, "{folder}: only {} imports seen", edges.len());
        assert_eq!(upward(&edges, &layers), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn no_files_know_each_other_in_a_circle() {
    for (folder, sources) in crates() {
        let mut edges = sources.edges();
        // lib.rs has nothing of its own.
        edges.retain(|(from, to), _| !from.is_empty() && !to.is_empty());
        for (from, to) in KNOWN {
            let known = edges.remove(&(from.to_owned(), to.to_owned())).is_some();
            assert!(known || folder != "src", "{from} -> {to} is mended: it is no exception any more");
        }
        let found = circles(&edges);
        let shown = found.iter().map(|pair| format!("{} -> {} by {:?}", pair.0, pair.1, edges[pair]));
        assert_eq!(shown.collect::<Vec<_>>(), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn what_is_wrong_is_seen() {
    let mut sources = Sources::default();
    sources.add("", "pub mod low; pub mod high; pub use high::Top;");
    sources.add("aside", "pub use crate::high::Top;");
    sources.add("low", "mod a; mod b; pub use a::A; use crate::Top; fn f() { let _ = \"crate::high::not\"; }");
    sources.add("low::a", "use super::b::{self, B as C};\npub struct A; // crate::high::not\n");
    sources.add("low::b", "pub struct B(super::A); #[cfg(test)] #[allow(x)] mod tests { use crate::high::Top; }");
    sources.add("high", "pub use crate::low::A; pub struct Top<'a>(&'a str); impl A { fn c() -> char { '\"' } }");
    let edges = sources.edges();
    let order = layers("`low, aside` < `high`");
    let handed = "aside -> high by {\"crate::high::Top\"}";
    assert_eq!(upward(&edges, &order), [handed, "low -> high by {\"crate::Top\"}"]);
    assert_eq!(upward(&edges, &layers("`high` < `low` < `aside`")), ["high -> low::a by {\"crate::low::A\"}"]);
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(circles(&edges), [pair("low::a", "low::b"), pair("low::b", "low::a")]);
}
