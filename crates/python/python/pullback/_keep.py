"""Models and libtorch's settings, left as they were found."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch._functorch import config as functorch

_lock = threading.Lock()
_held: dict[int, tuple[int, list[Any]]] = {}


def _settings() -> list[tuple[Any, bool]]:
    """The settings of libtorch that exact derivatives change, each with what it is."""
    cuda = torch.backends.cuda
    return [
        (cuda.enable_flash_sdp, cuda.flash_sdp_enabled()),
        (cuda.enable_mem_efficient_sdp, cuda.mem_efficient_sdp_enabled()),
        (cuda.enable_cudnn_sdp, cuda.cudnn_sdp_enabled()),
        (cuda.enable_math_sdp, cuda.math_sdp_enabled()),
        (lambda on: setattr(torch.backends.cudnn, "allow_tf32", on), torch.backends.cudnn.allow_tf32),
        (lambda on: setattr(cuda.matmul, "allow_tf32", on), cuda.matmul.allow_tf32),
        (lambda on: setattr(functorch, "donated_buffer", on), functorch.donated_buffer),
    ]


def _begin(module: torch.nn.Module | None) -> list[Any]:
    if module is None:
        settings: list[Any] = [(put, (value,)) for put, value in _settings()]
        # A compiled module inside the model may then be asked for several rows.
        functorch.donated_buffer = False
        return settings
    before: list[Any] = [
        (lambda m, on: setattr(m, "training", on), (m, m.training)) for m in module.modules() if m.training
    ]
    # Gradients are taken of the images: the parameters' would only cost time.
    wanted = [p for p in module.parameters() if p.requires_grad and p.is_leaf]
    before += [(lambda p: p.requires_grad_(True), (p,)) for p in wanted]
    for sub in module.modules():
        # Not eval(), which classes may override.
        sub.training = False
    for parameter in wanted:
        parameter.requires_grad_(False)
    return before


@contextlib.contextmanager
def kept(module: torch.nn.Module | None) -> Iterator[None]:
    """Puts a module into evaluation mode and lets its parameters need no gradient; afterwards all is as before, settings of libtorch too.

    Several threads may hold one module: the last that leaves puts it back."""
    held = [module] if module is not None else []
    # The key None is that of libtorch's settings.
    for thing in (None, *held):
        with _lock:
            count, before = _held.get(id(thing), (0, None))
            _held[id(thing)] = (count + 1, _begin(thing) if before is None else before)
    try:
        yield
    finally:
        for thing in (*held, None):
            with _lock:
                count, before = _held.pop(id(thing))
                if count > 1:
                    _held[id(thing)] = (count - 1, before)
                    continue
                for undo, arguments in before:
                    undo(*arguments)
