//! How many CPU threads there are: as many as this process may keep busy.

use crate::error::Error;
use anyhow::Context;
use std::thread::available_parallelism;

/// The variables by which a user gives libtorch's threads a number.
const NAMED: [&str; 2] = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"];

/// Uses `--threads`, if given, and otherwise no more threads than [`allowed`]: threads that wait for a processor stop the others too.
pub fn set(asked: Option<usize>) -> anyhow::Result<()> {
    match asked {
        None => {
            tch::set_num_threads(default());
            Ok(())
        }
        Some(threads) => {
            let for_torch = i32::try_from(threads)
                .map_err(|_| Error::request("--threads", format!("at most {}", i32::MAX), threads.to_string()))?;
            tch::set_num_threads(for_torch);
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads")
        }
    }
}

/// libtorch's number unless `--threads` is given: one for each core, as far as [`allowed`]; with a variable of [`NAMED`], that variable's.
pub fn default() -> i32 {
    let own = tch::get_num_threads().max(1);
    match NAMED.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        true => own,
        false => allowed().map_or(own, |allowed| own.min(i32::try_from(allowed).unwrap_or(i32::MAX))),
    }
}

/// The processors that this process may use: those of its affinity, and at most the quota of its control groups (of whole processors,
/// rounded down, at least one). libtorch knows of the first only, and would start a machine's number of threads in a container's share.
fn allowed() -> Option<usize> {
    available_parallelism().ok().map(usize::from)
}
