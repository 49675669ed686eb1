"""Models and libtorch's settings, left as they were found."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._functorch import config as functorch

_lock = threading.Lock()
# By id of a module, a parameter or None: how many hold it, and how it is put back.
_held: dict[int, tuple[int, list[Any]]] = {}

# torch's settings of the precision of float32, each after the one that "none" lets it follow. Not by torch.backends, where
# mkldnn.fp32_precision sets what generic has.
_PRECISIONS = [("generic", "all"), *((b, o) for b in ("cuda", "mkldnn") for o in ("all", "matmul", "conv", "rnn"))]
_precision = torch._C._get_fp32_precision_getter
_put_precision = torch._C._set_fp32_precision_setter


def _settings() -> list[tuple[Any, bool]]:
    """The settings of libtorch that exact derivatives change, each with what it is."""
    cuda = torch.backends.cuda
    profiling = torch._C._jit_set_profiling_mode
    # Only setting it tells what it was. The engine switches it off with each TorchScript file that it loads.
    profiled = profiling(False)
    profiling(profiled)
    return [
        (cuda.enable_flash_sdp, cuda.flash_sdp_enabled()),
        (cuda.enable_mem_efficient_sdp, cuda.mem_efficient_sdp_enabled()),
        (cuda.enable_cudnn_sdp, cuda.cudnn_sdp_enabled()),
        (cuda.enable_math_sdp, cuda.math_sdp_enabled()),
        (profiling, profiled),
        (lambda on: setattr(functorch, "donated_buffer", on), functorch.donated_buffer),
    ]


def _exact() -> list[Any]:
    """Computes in float32 proper, and says how to put back the precision that was."""
    before = []
    for backend, op in _PRECISIONS:
        before.append((_put_precision, (backend, op, _precision(backend, op))))
        # Now those below tell what they are themselves.
        _put_precision(backend, op, "none")
    # The older settings are beside these, and reading them raises where the two disagree, which takes milliseconds. Where convolutions may use
    # TF32, as is the default, they agree with it.
    for op in ("conv", "rnn"):
        _put_precision("cuda", op, "tf32")
    try:
        convolutions = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        convolutions = False
    for backend, op in _PRECISIONS:
        _put_precision(backend, op, "ieee")
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    older = [(torch.set_float32_matmul_precision, (products,)), (_allow_tf32, (convolutions,))]
    # The older ones first: they set some of the others.
    return older + before


def _allow_tf32(on: bool) -> None:
    torch.backends.cudnn.allow_tf32 = on


def _begin(thing: torch.nn.Module | Tensor | None, before: list[Any]) -> None:
    """Puts a thing into the state in which it is asked; `before` gets how it is put back."""
    if thing is None:
        before += [(put, (value,)) for put, value in _settings()]
        before += _exact()
        # A compiled module inside the model may then be asked for several rows.
        functorch.donated_buffer = False
    elif isinstance(thing, torch.nn.Module):
        # Not eval() and train(), which classes may override. A frozen file's module has no such mode.
        if getattr(thing, "training", False):
            before.append((lambda m: setattr(m, "training", True), (thing,)))
            thing.training = False
    # Gradients are taken of the images: the parameters' would only cost time. A tensor of inference mode would not take its flag back.
    elif thing.requires_grad and thing.is_leaf and not thing.is_inference():
        before.append((lambda p: p.requires_grad_(True), (thing,)))
        thing.requires_grad_(False)


def _hold(thing: torch.nn.Module | Tensor | None, stack: contextlib.ExitStack) -> None:
    count, before = _held.get(id(thing), (0, []))
    _held[id(thing)] = (count + 1, before)
    # Before the thing is changed: what fails half way is put back too.
    stack.callback(_let_go, thing)
    if count == 0:
        _begin(thing, before)


def _let_go(thing: torch.nn.Module | Tensor | None) -> None:
    with _lock:
        count, before = _held.pop(id(thing))
        if count > 1:
            _held[id(thing)] = (count - 1, before)
            return
        for undo, arguments in before:
            undo(*arguments)


@contextlib.contextmanager
def kept(module: torch.nn.Module | None) -> Iterator[None]:
    """Puts a module into evaluation mode and lets its parameters need no gradient; afterwards all is as before, settings of libtorch too.

    Several threads may hold one module, or modules that share parts: each part is put back by the last that leaves it."""
    parts: list[torch.nn.Module | Tensor] = [] if module is None else [*module.modules(), *module.parameters()]
    with contextlib.ExitStack() as stack:
        with _lock:
            # The key None is that of libtorch's settings.
            for thing in (None, *parts):
                _hold(thing, stack)
        yield
