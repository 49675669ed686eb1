"""What is written down of how a model in Python is read, and what a config may say of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from . import _native
from ._model import Model
from ._outputs import Ask


def interface_of(model: Model) -> dict[str, str]:
    """The command line's flags for how a model is read; the engine itself is given pixels in [0, 1] and ln sigma^2."""
    told = {}
    if model.input_range != (0.0, 1.0):
        told["--input-range"] = ",".join(map(repr, model.input_range))
    if model.posterior is not None:
        told["--posterior"] = model.posterior
    if model.outputs is not None and all(isinstance(key, int) and key >= 0 for key in model.outputs):
        told["--outputs"] = ",".join(map(str, model.outputs))
    return told


def refuse_other(model: Model, config: str | None, assignments: Sequence[str] | None) -> None:
    """Refuses keys `interface.*` of a YAML file or of `set=` that say something else than the model was opened with: nothing reads them."""
    for key, text in _native.said_of_interface(config, list(assignments or ())).items():
        said, own = json.loads(text), getattr(model, key)
        if (tuple(said) if isinstance(said, list) else said) != own:
            shown = said if isinstance(said, str) else json.dumps(said)
            raise Ask(
                f"interface.{key}: expected {own!r}, as pb.Model was given, found {shown} (pb.Model(..., {key}=...) alone says how a model in Python is read)"
            )
