"""What is written down of how a model in Python is read, and what a config may say of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from ._model import Model
from ._outputs import Ask

# The keys of `interface` in a YAML file (no other section has keys of these names), each with its value on a line or as a list.
_KEY = re.compile(
    r"""(?<![\w.])["']?(input_range|posterior|outputs)["']?\s*:[ \t]*(\[[^\]]*\]|(?:\s*-\s+\S+)+|[^\s,}\]]+)?"""
)


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
    for key, text in _said(config, assignments).items():
        own: Any = getattr(model, key)
        if _value(key, text) != own:
            raise Ask(
                f"interface.{key}: expected {own!r}, as pb.Model was given, found {text} (pb.Model(..., {key}=...) alone says how a model in Python is read)"
            )


def _said(config: str | None, assignments: Sequence[str] | None) -> dict[str, str]:
    """Keys of `interface` and what is said of them; `set=` goes before the file."""
    lines = []
    if config is not None and os.path.isfile(config):
        with open(config, encoding="utf-8", errors="replace") as file:
            lines.append(re.sub(r"(^|\s)#.*", "", file.read(), flags=re.MULTILINE))
    for assignment in assignments or ():
        path, _, value = assignment.partition("=")
        match path.strip().split("."):
            case ["interface"]:
                lines.append(value)
            case ["interface", key]:
                lines.append(f"{key}: {value}")
            case ["interface", key, *_]:
                lines.append(f"{key}: {assignment}")
    return {key: " ".join(text.split()) for key, text in _KEY.findall("\n".join(lines))}


def _value(key: str, text: str) -> Any:
    """A value as the model has it; the text where it is none."""
    if key == "posterior":
        return text.strip("\"'")
    if text in ("", "null", "~"):
        return None
    words = [word for word in re.split(r"[\s,\[\]]+", text) if word not in ("", "-")]
    try:
        return tuple(int(word) if key == "outputs" else float(word) for word in words)
    except ValueError:
        return text
