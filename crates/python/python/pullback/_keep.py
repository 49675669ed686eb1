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

# torch's settings of the precision of float32, each after the one that "none" lets it follow. Not by torch.backends, where
# mkldnn.fp32_precision sets what generic has.
_PRECISIONS = [("generic", "all"), *((b, o) for b in ("cuda", "mkldnn") for o in ("all", "matmul", "conv", "rnn"))]
_precision = torch._C._get_fp32_precision_getter
_put_precision = torch._C._set_fp32_precision_setter


def _settings() -> list[tuple[Any, bool]]:
    """The settings of libtorch that exact derivatives change, each with what it is."""
    cuda = torch.backends.cuda
    return [
        (cuda.enable_flash_sdp, cuda.flash_sdp_enabled()),
        (cuda.enable_mem_efficient_sdp, cuda.mem_efficient_sdp_enabled()),
        (cuda.enable_cudnn_sdp, cuda.cudnn_sdp_enabled()),
        (cuda.enable_math_sdp, cuda.math_sdp_enabled()),
        (lambda on: setattr(functorch, "donated_buffer", on), functorch.donated_buffer),
    ]


def _exact() -> list[Any]:
    """Computes in float32 proper, and says how to put back the precision that was."""
    before = []
    for backend, op in _PRECISIONS:
        before.append((_put_precision, (backend, op, _precision(backend, op))))
        # Now those below tell what they are themselves.
        _put_precision(backend, op, "none")
    for backend, op in _PRECISIONS:
        _put_precision(backend, op, "ieee")
    # The older settings are beside these, and reading them raises where the two disagree: with "ieee" the first never does.
    products = torch.get_float32_matmul_precision()
    try:
        convolutions = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        convolutions = True
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    older = [(torch.set_float32_matmul_precision, (products,)), (_allow_tf32, (convolutions,))]
    # The older ones first: they set some of the others.
    return older + before


def _allow_tf32(on: bool) -> None:
    torch.backends.cudnn.allow_tf32 = on


def _begin(module: torch.nn.Module | None) -> list[Any]:
    if module is None:
        settings: list[Any] = [*((put, (value,)) for put, value in _settings()), *_exact()]
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
