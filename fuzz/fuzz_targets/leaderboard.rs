#![no_main]

#[path = "../parsers.rs"]
mod parsers;
#[path = "../scratch.rs"]
mod scratch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(parsers::leaderboard(bytes, scratch::folder())));
