"""Somebody's own judge of codes or reconstructions, as the engine asks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._identity import Identity
from ._memory import Memory
from ._outputs import Ask


class Judge:
    """A callable from codes [B, L] or images [B, ...] in [0, 1] to one value for each sample, [B] or [B, 1], or several, [B, K]."""

    def __init__(self, judge: Callable[[Tensor], Any]) -> None:
        if not callable(judge):
            raise Ask(f"judge: expected a callable, such as an nn.Module, or the path of a TorchScript file, found {type(judge).__name__}")
        self._judge, self._memory = judge, Memory("judge")
        called = type(judge).__name__ if self.module is not None else str(getattr(judge, "__qualname__", type(judge).__name__))
        # An unfinished result goes on only with the same judge.
        self.name = f"{called}:{self._digest()}"

    @property
    def module(self) -> torch.nn.Module | None:
        """The module that is asked; None where it is another callable."""
        return self._judge if isinstance(self._judge, torch.nn.Module) else None

    def _digest(self) -> str:
        seen = Identity()
        seen.put(type(self._judge).__qualname__)
        seen.asked(self._judge)
        if not seen.told:
            seen.put(os.urandom(16))
        return seen.hexdigest()[:16]

    def answer(self, output: Tensor) -> Tensor:
        """What it says of codes or images, in their dtype."""
        said = self._memory.ask(self._judge, output)
        if not isinstance(said, Tensor):
            raise Ask(f"judge: expected a tensor [{output.shape[0]}] or [{output.shape[0]}, K], found {type(said).__name__}")
        if torch.is_grad_enabled() and output.requires_grad and not said.requires_grad:
            raise Ask("judge: expected values with a gradient, found some without (torch.no_grad(), .detach() or argmax inside?)")
        return self._memory.kept(said).to(output)
