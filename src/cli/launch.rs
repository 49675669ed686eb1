//! The part of a run that this process does, where `--shard` does not name it: by its launcher, or in turn with others.

use crate::config::launcher::{self, Share};
use crate::config::{HandOut, Shard, ShardChoice};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::lock;
use crate::pipeline::Subject;
use crate::pipeline::sweep::SweepRequest;
use crate::store::Overwrite;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::path::Path;

/// How the user says otherwise.
const OTHERWISE: &str = "`merge` joins the parts, --shard none does all";

/// Gives `score` or `attack` its samples, in files of their own, and a device of its own. Ranks that were started at once take parts in
/// turn, if they may (`in_turn`: the work leaves nothing but result files) and their files can be locked; others have the launcher's part,
/// which is returned.
pub fn subject(
    subject: &mut Subject,
    typed: Option<ShardChoice>,
    in_turn: bool,
    observer: &dyn Observer,
) -> Result<Option<Shard>> {
    if matches!(typed, Some(ShardChoice::Whole | ShardChoice::Part(_))) {
        return Ok(None);
    }
    let share = share(observer)?;
    let local = share.as_ref().and_then(|share| share.local);
    subject.device = local.map_or(subject.device, |local| subject.device.of_local(local));
    let lockable = lock::is_shared(folder(&subject.output));
    if let Some(ShardChoice::Any(parts)) = typed {
        let asked = format!("--shard any/{parts}");
        if !in_turn {
            return Err(Error::request(asked, "no --save-png: its files are not locked", "both"));
        }
        // A folder that is not there is reported by whoever writes.
        if !lockable && folder(&subject.output).is_dir() {
            return Err(Error::request(asked, "a folder whose files can be locked (--shard I/N)", "one without locks"));
        }
        subject.hand_out = HandOut::any(parts, share.map(|share| share.shard));
        return Ok(None);
    }
    let Some(Share { shard, launcher, at_once, .. }) = share else { return none_found(typed) };
    let in_turn = in_turn && at_once && lockable && subject.overwrite == Overwrite::No;
    if typed.is_none() && in_turn {
        subject.hand_out = HandOut::among(shard);
        let files =
            Shard { part: 1, of: 1 }.file(&subject.output).display().to_string().replace("shard-1-of-1", "shard-*");
        let line = format!("rank {shard} by {launcher}: parts of the samples in turn, {files} ({OTHERWISE})");
        observer.on(Event::Note(&line));
        return Ok(None);
    }
    subject.shard = Some(shard);
    subject.hand_out = HandOut::Launched;
    subject.output = shard.file(&subject.output);
    observer.on(Event::Note(&format!(
        "part {shard} of the samples, by {launcher}: {} ({OTHERWISE})",
        subject.output.display()
    )));
    Ok(Some(shard))
}

/// Gives a launcher's part of the models to a sweep.
pub fn sweep(request: &mut SweepRequest, typed: Option<ShardChoice>, observer: &dyn Observer) -> Result<()> {
    match typed {
        Some(ShardChoice::Whole | ShardChoice::Part(_)) => return Ok(()),
        Some(ShardChoice::Any(parts)) => {
            let expected = "I/N, rank or none: a sweep's models are divided before";
            return Err(Error::request("--shard", expected, format!("any/{parts}")));
        }
        Some(ShardChoice::Rank) | None => {}
    }
    let Some(Share { shard, launcher, local, .. }) = share(observer)? else { return none_found(typed).map(drop) };
    request.share = Some(shard);
    request.spec.device = local.map_or(request.spec.device, |local| request.spec.device.of_local(local));
    observer.on(Event::Note(&format!("part {shard} of the models, by {launcher} (--shard none does all)")));
    Ok(())
}

/// No part, unless a launcher's was asked for.
fn none_found(typed: Option<ShardChoice>) -> Result<Option<Shard>> {
    match typed {
        Some(ShardChoice::Rank) => Err(Error::request(
            "--shard rank",
            "a process that a launcher numbers (docs/cluster.md; -v tells why)",
            "none",
        )),
        _ => Ok(None),
    }
}

/// The launcher's part.
fn share(observer: &dyn Observer) -> Result<Option<Share>> {
    let terminal = stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal();
    // A value that is no text is no number either.
    let found = launcher::find(|name| std::env::var(name).ok(), terminal)?;
    for why in &found.ignored {
        observer.on(Event::Detail(&format!("not taken as a part of a run: {why}")));
    }
    Ok(found.share)
}

fn folder(output: &Path) -> &Path {
    output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
