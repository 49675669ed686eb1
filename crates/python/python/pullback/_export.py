"""Models in Python as files for the command line."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ._keep import kept
from ._model import Model, Reader
from ._outputs import Ask, told

#: Batches that a file is tried on, beside the one that it was traced with.
_OTHERS = (1, 3, 5)
#: How far what the file gives may lie from what the model gives, relative to its largest value.
_TOLERANCE = 1e-4


class _Passes(torch.nn.Module):
    """The two methods that the command line asks for: images in [0, 1], mu and ln sigma^2."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        # Submodules, so that their weights go into the file, where another precision reaches them.
        self.module, self.functions = reader._module, torch.nn.ModuleList(_modules_of(reader._model._own))
        self._reader = reader

    def encode(self, x: Tensor) -> Any:
        mean, scale = self._reader.encode(x)
        return mean if scale is None else (mean, scale)

    def decode(self, z: Tensor) -> Tensor:
        return self._reader.decode(z)


def export(vae: Any, path: str | os.PathLike[str], images: Tensor, *, force: bool = False) -> None:
    """Writes a model as a TorchScript file with ``encode(x) -> (mu, logvar)`` and ``decode(z)``, which the command line reads without
    further flags: images in [0, 1], ln sigma^2.

    The file is written only where it gives what the model gives: codes, images and gradients, for batches of 1, 3 and 5 too.

    Args:
        vae: A :class:`Model`, or what one is made of.
        path: The file.
        images: Some images [B, ...] in [0, 1], as the model takes them; two are enough.
        force: Replace the file where it is there.

    Raises:
        FileExistsError: Where it is there, without ``force``.
        ValueError: Where the model cannot be exported, or its file gives something else; the message says what.
        OSError: Where writing fails.

    >>> import torch, pullback as pb
    >>> vae = torch.nn.Module()
    >>> vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    >>> vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 784), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
    >>> x, labels = pb.images("strokes", limit=4)
    >>> pb.export(vae, "vae.pt", x[:2])
    >>> ours, theirs = (pb.score(m, x, metric="mean", quiet=True).spectrum for m in (vae, "vae.pt"))
    >>> torch.allclose(ours, theirs, rtol=1e-5)
    True
    """
    path = os.fspath(path)
    if os.path.exists(path) and not force:
        raise FileExistsError(f"{path}: expected a new file (or force=True), found one that exists")
    model = vae if isinstance(vae, Model) else Model(vae)
    if not isinstance(images, Tensor) or images.ndim < 2 or len(images) == 0 or not images.is_floating_point():
        raise Ask("images: expected a tensor [B, ...] of pixels in [0, 1]")
    try:
        # Gradients are compared, whatever mode the caller is in. What libtorch makes of them from the second call on is not the model's.
        with (
            kept(model.module),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
        ):
            # A copy: a tensor that inference mode made cannot be differentiated by.
            x = images.detach().to(model.device, torch.float32).clone()
            reader = model.reader(False)
            passes = _Passes(reader)
            # kept() has put the modules in this mode already; the one around them has to say so too.
            passes.training = False
            written = _traced(passes, model, x)
            _compared(written, passes, model, x)
            _published(written, path)
    finally:
        model._forget()


def _modules_of(functions: Iterable[Any]) -> list[torch.nn.Module]:
    """Those that are modules, or methods of modules."""
    owners = (getattr(function, "__self__", function) for function in functions)
    return [owner for owner in owners if isinstance(owner, torch.nn.Module)]


def _traced(passes: _Passes, model: Model, x: Tensor) -> torch.jit.ScriptModule:
    with torch.no_grad(), warnings.catch_warnings():
        # TorchScript is deprecated, and a trace warns of every shape that Python asks for: the comparison tells what matters.
        warnings.simplefilter("ignore")
        # Asked before it is traced: more is asked before a first question.
        mean = passes._reader.encode(x)[0]
        passes._reader.decode(mean)
        fast = torch.backends.mha.get_fastpath_enabled()
        with tempfile.TemporaryDirectory(prefix="pullback-") as folder:
            try:
                # Otherwise attention takes a way in evaluation mode that a trace cannot differentiate.
                torch.backends.mha.set_fastpath_enabled(False)
                traced = torch.jit.trace_module(passes, {"encode": x, "decode": mean}, check_trace=False)
                # What is compared is what a file holds.
                place = os.path.join(folder, "vae.pt")
                traced.save(place)
            except Exception as error:
                own = "Python function call" in str(error)
                hint = " (a file has no place for torch.autograd.Function and checkpointing)" if own else ""
                raise Ask(
                    f"{model.name}: expected a model that torch.jit.trace takes, found {told(error)}{hint}"
                ) from error
            finally:
                torch.backends.mha.set_fastpath_enabled(fast)
            return torch.jit.load(place, map_location=x.device)


def _compared(file: torch.jit.ScriptModule, passes: _Passes, model: Model, x: Tensor) -> None:
    for count in (len(x), *_OTHERS):
        rows = x[torch.arange(count, device=x.device) % len(x)]
        # Other images too: what a trace has taken for constant shows. Devices are named, since torch may have another default.
        noise = torch.rand(rows.shape, generator=torch.Generator("cpu").manual_seed(count), device="cpu")
        rows = (0.9 * rows + 0.1 * noise.to(rows)).requires_grad_()
        try:
            found, wanted = _answers(file, rows), _answers(passes, rows)
        except RuntimeError as error:
            line = next((w for w in reversed(str(error).splitlines()) if "Error" in w), str(error).splitlines()[-1])
            raise Ask(
                f"{model.name}: expected a file that takes {count} images, found {line} (a batch size built in? use x.shape[0], or x.flatten(1))"
            ) from error
        for part, a, b in zip(("mu", "logvar", "image", "gradient"), found, wanted, strict=True):
            if a is None or b is None:
                continue
            gap = (a - b).abs().max().item() if a.shape == b.shape else float("inf")
            if not gap <= _TOLERANCE * max(b.abs().max().item(), 1e-30):
                raise Ask(
                    f"{model.name}: expected a file that gives what the model gives, found its {part} of {count} images {gap:.1e} away (does its code choose by the values of its input?)"
                )


def _answers(vae: Any, x: Tensor) -> tuple[Tensor | None, ...]:
    given = vae.encode(x)
    mean, scale = (given, None) if isinstance(given, Tensor) else given
    image = vae.decode(mean)
    weights = torch.linspace(0.5, 1.5, image.numel(), device=image.device).to(image).view_as(image)
    (gradient,) = torch.autograd.grad((image * weights).sum(), x, allow_unused=True)
    return mean.detach(), None if scale is None else scale.detach(), image.detach(), gradient


def _published(file: torch.jit.ScriptModule, path: str) -> None:
    """There whole or not at all."""
    beside = f"{path}.{os.getpid()}.partial"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.save(beside)
        os.replace(beside, path)
    except RuntimeError as error:
        raise OSError(f"{path}: {str(error).strip().splitlines()[0]}") from error
    finally:
        if os.path.exists(beside):
            os.remove(beside)
