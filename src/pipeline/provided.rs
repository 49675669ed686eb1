//! A model and data that are there already, in place of those that a request names by their paths.

use crate::data::Source;
use crate::error::Result;
use crate::model::{Judge, Model, View};
use std::sync::Arc;
use tch::{Device, Kind};

/// Makes a model that is asked on a device, with tensors of a kind, for samples that are seen as a view says.
pub type Opener<'a> = dyn Fn(Device, Kind, Option<View>) -> Result<Model> + 'a;

/// Makes a judge on a device, with tensors of a kind.
pub type JudgeOpener<'a> = dyn Fn(Device, Kind) -> Result<Box<dyn Judge>> + 'a;

/// What a request need not open: its paths are then names only.
#[derive(Clone, Copy, Default)]
pub struct Provided<'a> {
    /// In place of `Subject::model`. Where samples are no images it may be asked for several views, of which the first that fits is
    /// taken.
    pub model: Option<&'a Opener<'a>>,
    /// In place of `Subject::data`: its split and limit are what they are.
    pub data: Option<&'a Arc<dyn Source>>,
    /// In place of `AttackRequest::judge`.
    pub judge: Option<&'a JudgeOpener<'a>>,
    /// True where the result file is gone with the process: the disk is not waited for.
    pub passing: bool,
}
