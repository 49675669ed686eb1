"""Memory that a callable is given or answers in: what it does there besides answering."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ._outputs import Ask


class Memory:
    """Asks one pass of a model, or a judge: what it is given stays as it is, and so does what it gave before.

    Before the first question it is asked of two copies of one row. A callable that writes into its argument (`x.sub_(0.5)`, a first layer in
    place) is given copies from then on, and answers of one that uses its buffer again are copied. Those of others are not: copies cost time."""

    def __init__(self, name: str) -> None:
        self._name = name
        #: Whether it writes into its argument; None before the first question.
        self.writes: bool | None = None
        #: Whether an answer lies where the one before lay.
        self.reuses = False

    def ask(self, function: Callable[[Tensor], Any], given: Tensor) -> Any:
        """What `function` says of `given` [B, ...]."""
        if self.writes is None and not torch.jit.is_tracing():  # type: ignore[attr-defined]
            # What does not take one row says so at the question, or the engine does.
            with contextlib.suppress(Exception):
                self._look(function, given)
        if self.writes is not False:
            return function(given.clone())
        before = _version(given)
        output = function(given)
        if _version(given) != before:
            raise Ask(
                f"{self._name}: expected code that never writes into its argument, or at its first call too, found a later call that did (x = x.clone() before it)"
            )
        return output

    def kept(self, answer: Tensor) -> Tensor:
        """An answer as it stays."""
        return answer.clone() if self.reuses else answer

    def _look(self, function: Callable[[Tensor], Any], given: Tensor) -> None:
        with torch.no_grad():
            copies = [given[:1].detach().clone() for _ in range(2)]
            before = [_version(copy) for copy in copies]
            first = function(copies[0])
            parts = list(_tensors(first))
            versions = [_version(part) for part in parts]
            function(copies[1])
            self.reuses = versions != [_version(part) for part in parts]
            # Not every way of writing is counted: x.data.sub_(0.5) is not.
            self.writes = before != [_version(copy) for copy in copies] or not torch.equal(copies[0], given[:1])


def _version(tensor: Tensor) -> int:
    """How often a tensor's memory was written; none is counted of those that inference mode made."""
    return -1 if tensor.is_inference() else tensor._version


def _tensors(output: Any, depth: int = 4) -> Iterator[Tensor]:
    """The tensors among what an encoder or a decoder gives."""
    if isinstance(output, Tensor):
        yield output
    elif depth > 0:
        own: Any = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
        for part in output if isinstance(output, (tuple, list)) else own.values():
            yield from _tensors(part, depth - 1)
