//! The part of a run that this process does, where `--shard` does not say it: that of the launcher.

use crate::config::launcher::{self, Share};
use crate::config::{Shard, ShardChoice};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::pipeline::Subject;
use crate::pipeline::sweep::SweepRequest;
use std::io::{IsTerminal, stderr, stdin, stdout};

/// Gives a launcher's part to `score` or `attack`: its samples, a file of its own, a device of its own.
pub fn subject(subject: &mut Subject, typed: Option<ShardChoice>, observer: &dyn Observer) -> Result<Option<Shard>> {
    let Some(Share { shard, launcher, local }) = share(typed, observer)? else { return Ok(None) };
    subject.shard = Some(shard);
    subject.launched = true;
    subject.output = shard.file(&subject.output);
    subject.device = local.map_or(subject.device, |local| subject.device.of_local(local));
    let whole = "`merge` joins the parts, --shard none does all";
    observer.on(Event::Note(&format!(
        "part {shard} of the samples, by {launcher}: {} ({whole})",
        subject.output.display()
    )));
    Ok(Some(shard))
}

/// Gives a launcher's part of the models to a sweep.
pub fn sweep(request: &mut SweepRequest, typed: Option<ShardChoice>, observer: &dyn Observer) -> Result<()> {
    let Some(Share { shard, launcher, local }) = share(typed, observer)? else { return Ok(()) };
    request.share = Some(shard);
    request.spec.device = local.map_or(request.spec.device, |local| request.spec.device.of_local(local));
    observer.on(Event::Note(&format!("part {shard} of the models, by {launcher} (--shard none does all)")));
    Ok(())
}

/// The launcher's part, if nothing was typed.
fn share(typed: Option<ShardChoice>, observer: &dyn Observer) -> Result<Option<Share>> {
    if typed.is_some() {
        return Ok(None);
    }
    let terminal = stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal();
    // A value that is no text is no number either.
    let found = launcher::find(|name| std::env::var(name).ok(), terminal)?;
    for why in &found.ignored {
        observer.on(Event::Detail(&format!("not taken as a part of a run: {why}")));
    }
    Ok(found.share)
}
