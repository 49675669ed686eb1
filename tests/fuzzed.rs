//! The corpora of fuzz/: every file of them through its parser, as the fuzzer gives it; what the fuzzer found once is among them.

#[path = "../fuzz/parsers.rs"]
mod parsers;

use crate::child;
use crate::files::root;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;
use std::time::Duration;

#[test]
fn every_file_of_the_corpora_has_an_answer() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, parser) in parsers::PARSERS {
        let folder = root().join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut good = 0;
        for file in &files {
            let bytes = fs::read(file).unwrap();
            // Each parser has its own files in a folder of its own.
            let place = tempfile::tempdir_in(scratch.path()).unwrap();
            match parser(&bytes, place.path()) {
                Ok(()) => good += 1,
                Err(error) => {
                    let line = error.to_string();
                    assert!(!line.contains('\n') && matches!(error.exit_code(), 1 | 2), "{}: {line}", file.display());
                }
            }
            // And cut short, a byte missing.
            let _ = parser(&bytes[..bytes.len().saturating_sub(1)], place.path());
        }
        assert!(good > 0, "{name}: nothing that its parser takes, of {}", files.len());
    }
}

#[test]
fn every_parser_has_a_target() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in parsers::PARSERS {
        let target = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            target.contains(&format!("parsers::{name}(")) && manifest.contains(&format!("name = \"{name}\"")),
            "{name}"
        );
    }
}

/// One of the ways in which a file is damaged: bytes that are others, numbers that are extreme, a part that is missing, doubled or moved.
fn damaged(bytes: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let len = bytes.len();
        if len < 9 {
            break;
        }
        let at = rng.random_range(0..len - 8);
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => {
                let extreme = [0, 1, 0x7f, 0xff][rng.random_range(0..4)];
                let width = [1, 2, 4, 8][rng.random_range(0..4)];
                bytes[at..at + width].fill(extreme);
            }
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..(at + rng.random_range(1..64)).min(len)].to_vec();
                bytes.splice(at..at, part);
            }
            _ => drop(bytes.drain(at..(at + rng.random_range(1..64)).min(len))),
        }
    }
    bytes
}

/// Without a fuzzer's eye for branches, and on stable: PULLBACK_CASES times 40 damaged files for each parser, the same ones every time.
#[test]
fn damaged_files_have_an_answer() {
    let times = std::env::var("PULLBACK_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (name, parser) in parsers::PARSERS {
        let mut files: Vec<_> =
            fs::read_dir(root().join("fuzz/corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        let place = tempfile::tempdir_in(scratch.path()).unwrap();
        for case in 0..40 * times {
            let mut rng = ChaCha8Rng::seed_from_u64(case);
            let bytes = damaged(&seeds[case as usize % seeds.len()], &mut rng);
            // What ends the process leaves its bytes: PULLBACK_KEEP=FILE.
            if let Some(keep) = std::env::var_os("PULLBACK_KEEP") {
                fs::write(keep, &bytes).unwrap();
            }
            if let Err(error) = parser(&bytes, place.path()) {
                let line = error.to_string();
                assert!(!line.contains('\n') && matches!(error.exit_code(), 1 | 2), "{name}, case {case}: {line}");
            }
        }
    }
}

/// Room that a parser has whatever the file is: HDF5's caches, and what the allocator keeps.
const ROOM: u64 = 24 << 20;

/// Bytes of this process in /proc/self/status, in a line such as VmHWM.
fn status(line: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let found =
        text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok());
    1024 * found.unwrap_or(0u64)
}

/// How many bytes more than before `work` takes at its peak.
fn growth(work: impl FnOnce()) -> u64 {
    // The peak counts from here on.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS");
    work();
    status("VmHWM").saturating_sub(before)
}

#[test]
#[cfg(target_os = "linux")]
fn parsers_take_no_more_memory_than_twice_the_file() {
    let child = child::within(Duration::from_secs(300), &mut child::test("fuzzed::memory_of_parsers")).unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
    println!("{said}");
}

/// In a process of its own, because memory is a process's.
#[test]
#[ignore = "a part of parsers_take_no_more_memory_than_twice_the_file"]
fn memory_of_parsers() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, parser) in parsers::PARSERS {
        let place = tempfile::tempdir_in(scratch.path()).unwrap();
        let mut most = 0;
        for entry in fs::read_dir(root().join("fuzz/corpus").join(name)).unwrap() {
            let file = entry.unwrap().path();
            let bytes = fs::read(&file).unwrap();
            for case in 0..4 {
                let bytes =
                    if case == 0 { bytes.clone() } else { damaged(&bytes, &mut ChaCha8Rng::seed_from_u64(case)) };
                let took = growth(|| drop(parser(&bytes, place.path())));
                assert!(took <= ROOM + 2 * bytes.len() as u64, "{}, case {case}: {took} bytes", file.display());
                most = most.max(took);
            }
        }
        println!("{name}: at most {} KiB", most >> 10);
    }
    // Large files, whose values do not pack.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut values = vec![0u8; 100_000 * 28 * 28];
    rng.fill_bytes(&mut values);
    let npy = [&b"\x93NUMPY\x01\0\x76\0"[..], &header(), &values].concat();
    let idx = [&[0, 0, 8, 3, 0, 1, 0x86, 0xa0, 0, 0, 0, 28, 0, 0, 0, 28][..], &values].concat();
    for (name, parser, bytes) in [("npy", parsers::npy as fn(&[u8], &Path) -> _, npy), ("idx", parsers::idx, idx)] {
        let place = tempfile::tempdir_in(scratch.path()).unwrap();
        let mut answer: pullback::Result<()> = Ok(());
        let took = growth(|| answer = parser(&bytes, place.path()));
        assert!(answer.is_ok(), "{name}: {answer:?}");
        println!("{name} of {} MiB: {} KiB", bytes.len() >> 20, took >> 10);
        assert!(took <= ROOM + 2 * bytes.len() as u64, "{name}: {took} bytes of {}", bytes.len());
    }
}

/// The header of 100,000 images in NumPy's format, 118 bytes.
fn header() -> Vec<u8> {
    let mut text = "{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 28, 28), }".to_owned().into_bytes();
    text.resize(117, b' ');
    text.push(b'\n');
    text
}
