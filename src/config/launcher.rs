//! Which part of the samples this process has, as told by the program that launched it.
//!
//! A launcher starts one command several times and numbers the copies in their environment. Those that start copies beside each other
//! (torchrun, Open MPI, PMI, `srun`) say how many there are. Those that start a job for each number (arrays of Slurm, Indexed Jobs of
//! Kubernetes) may do so in order to split one run, or for different runs. The innermost launcher counts, because outer ones leave their
//! variables to everything that they start.

use super::shard::Shard;
use crate::error::{Error, Result};

/// The number of parts where a launcher does not say it, or says it wrongly because only some of the parts are started again.
pub const SHARDS: &str = "PULLBACK_SHARDS";

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The part, with the launcher that gave it; `None`: this is the only process.
    pub share: Option<Share>,
    /// Variables of launchers that do not count, and why, in words.
    pub ignored: Vec<String>,
}

/// A part, as a launcher gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The part.
    pub shard: Shard,
    /// Who gave it: "torchrun", "srun".
    pub launcher: &'static str,
    /// The number of this process among those on its machine, from 0, where it is known.
    pub local: Option<usize>,
    /// True if the launcher starts its processes at once, as one program.
    pub at_once: bool,
}

/// A launcher of copies that know their number: names of variables.
struct Ranks {
    launcher: &'static str,
    rank: &'static str,
    size: &'static [&'static str],
    local: &'static [&'static str],
}

/// The innermost first: `mpirun` and `torchrun` are themselves started by `srun`, and `torchrun` by `mpirun`.
const RANKS: [Ranks; 4] = [
    Ranks { launcher: "torchrun", rank: "RANK", size: &["WORLD_SIZE"], local: &["LOCAL_RANK"] },
    Ranks {
        launcher: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        size: &["OMPI_COMM_WORLD_SIZE"],
        local: &["OMPI_COMM_WORLD_LOCAL_RANK"],
    },
    Ranks {
        launcher: "PMI",
        rank: "PMI_RANK",
        size: &["PMI_SIZE"],
        local: &["MPI_LOCALRANKID", "PALS_LOCAL_RANKID", "SLURM_LOCALID"],
    },
    // The step's own number of tasks, where there is one: SLURM_NTASKS may be the whole job's.
    Ranks {
        launcher: "srun",
        rank: "SLURM_PROCID",
        size: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
        local: &["SLURM_LOCALID"],
    },
];

/// Steps of Slurm with this number or a larger one are shells and batch scripts (SLURM_MAX_NORMAL_STEP_ID of slurm.h).
const FIRST_SPECIAL_STEP: usize = 0xffff_fff0;

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The part that the variables of an environment give; `terminal` is true if a terminal is among the process's standard streams.
///
/// # Errors
/// A wrong request if [`SHARDS`] is no number, or smaller than the index that goes with it.
pub fn find(variable: impl Fn(&str) -> Option<String>, terminal: bool) -> Result<Launch> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut found: Vec<Share> = Vec::new();
    let mut ignored = Vec::new();
    for ranks in &RANKS {
        match of_ranks(ranks, &variable, terminal) {
            Some(Ok(share)) => found.push(share),
            Some(Err(why)) => ignored.push(why),
            None => {}
        }
    }
    for outer in [of_array(&variable)?, of_index(&variable)?].into_iter().flatten() {
        match outer {
            Ok(share) => found.push(share),
            Err(why) => ignored.push(why),
        }
    }
    let given = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"].iter().any(|index| variable(index).is_some());
    if let (true, false, Some(shown)) = (found.is_empty(), given, variable(SHARDS)) {
        let expected = "an index beside it (SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX), or --shard none";
        return Err(Error::request(format!("{SHARDS}={shown}"), expected, "none"));
    }
    let mut found = found.into_iter();
    let share = found.next();
    if let Some(inner) = &share {
        let (mine, by) = (inner.shard, inner.launcher);
        let others = found.filter(|other| other.shard != mine);
        ignored.extend(
            others.map(|o| format!("part {} by {}: it is outside of {by}, which gives {mine}", o.shard, o.launcher)),
        );
    }
    Ok(Launch { share, ignored })
}

/// A part, or why there is none although the variables are there.
type Claim = std::result::Result<Share, String>;

fn of_ranks(ranks: &Ranks, variable: Variables, terminal: bool) -> Option<Claim> {
    let Ranks { launcher, rank, size, local } = ranks;
    let shown = variable(rank)?;
    let (name, size) = size.iter().find_map(|name| Some((*name, variable(name)?)))?;
    let given = format!("{rank}={shown} and {name}={size}");
    let (Ok(part), Ok(of)) = (shown.parse::<usize>(), size.parse::<usize>()) else {
        return Some(Err(format!("{given}: no numbers")));
    };
    if part >= of {
        return Some(Err(format!("{given}: no rank below the size")));
    }
    if *launcher == "srun"
        && let Some(why) = no_step(variable, terminal)
    {
        return (of > 1).then(|| Err(format!("{given}: {why}")));
    }
    if of == 1 {
        return Some(Err(format!("{given}: the only rank")));
    }
    let local = local.iter().find_map(|name| variable(name)?.parse().ok());
    Some(Ok(Share { shard: Shard { part: part + 1, of }, launcher, local, at_once: true }))
}

/// Why variables of Slurm are not those of one of several copies.
fn no_step(variable: Variables, terminal: bool) -> Option<&'static str> {
    let Some(step) = variable("SLURM_STEP_ID").or_else(|| variable("SLURM_STEPID")) else {
        return Some("of a job, not of srun");
    };
    if step.parse::<usize>().map_or(true, |step| step >= FIRST_SPECIAL_STEP) {
        return Some("of a shell or a batch script, not of srun");
    }
    // `srun --pty bash` is one shell, whatever its size says. It leaves this variable to an `srun` in it, whose tasks have no terminal.
    variable("SLURM_PTY_PORT").filter(|_| terminal).map(|_| "of an interactive shell (srun --pty)")
}

/// A task of a job array: its place among the array's numbers, or its own number of [`SHARDS`], from 0.
fn of_array(variable: Variables) -> Result<Option<Claim>> {
    const ID: &str = "SLURM_ARRAY_TASK_ID";
    let Some(shown) = variable(ID) else { return Ok(None) };
    let share = |part, of| Share { shard: Shard { part, of }, launcher: "the job array", local: None, at_once: false };
    let number = |name: &str| variable(&format!("SLURM_ARRAY_TASK_{name}")).and_then(|text| text.parse::<usize>().ok());
    if let Some(of) = shards(variable)? {
        return numbered(ID, &shown, of).map(|part| Some(several(share(part, of))));
    }
    let (Some(id), Some(min), Some(max), Some(count)) = (number("ID"), number("MIN"), number("MAX"), number("COUNT"))
    else {
        return Ok(Some(Err(format!("{ID}={shown}: without the array's bounds"))));
    };
    let step = number("STEP").unwrap_or(1).max(1);
    let regular = (min..=max).contains(&id) && (id - min) % step == 0 && (max - min) / step + 1 == count;
    Ok(Some(match (regular, count) {
        (_, 0 | 1) => {
            Err(format!("{ID}={shown}: the only task of its array (where it is one of several parts: {SHARDS})"))
        }
        (false, _) => Err(format!("{ID}={shown}: an array with gaps ({SHARDS} beside it, and numbers from 0)")),
        (true, _) => Ok(share((id - min) / step + 1, count)),
    }))
}

/// A pod of an Indexed Job; the job's number of completions is not in its environment.
fn of_index(variable: Variables) -> Result<Option<Claim>> {
    const INDEX: &str = "JOB_COMPLETION_INDEX";
    let Some(shown) = variable(INDEX) else { return Ok(None) };
    let Some(of) = shards(variable)? else {
        return Ok(Some(Err(format!("{INDEX}={shown}: without {SHARDS}, the job's completions"))));
    };
    let part = numbered(INDEX, &shown, of)?;
    let shard = Shard { part, of };
    Ok(Some(several(Share { shard, launcher: "the Indexed Job", local: None, at_once: false })))
}

/// A claim to a part, unless it is the whole.
fn several(share: Share) -> Claim {
    match share.shard.of {
        1 => Err(format!("{SHARDS}=1: the only part")),
        _ => Ok(share),
    }
}

fn shards(variable: Variables) -> Result<Option<usize>> {
    let Some(shown) = variable(SHARDS) else { return Ok(None) };
    match shown.parse() {
        Ok(of) if of >= 1 => Ok(Some(of)),
        _ => Err(Error::request(SHARDS, "a whole number >= 1", shown)),
    }
}

/// Part `shown` + 1 of `of`.
fn numbered(name: &str, shown: &str, of: usize) -> Result<usize> {
    match shown.parse::<usize>() {
        Ok(index) if index < of => Ok(index + 1),
        _ => Err(Error::request(name, format!("0 to {}, by {SHARDS}={of}", of - 1), shown)),
    }
}
