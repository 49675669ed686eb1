"""Scoring and attacking, with the command line's options."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from . import _native
from ._data import is_path, rows_of
from ._interface import interface_of, refuse_other
from ._judge import Judge
from ._keep import kept
from ._model import Model
from ._outputs import Ask
from ._progress import Listener, PullbackWarning
from ._results import Attack, Scores

Metric = Literal["mean", "stochastic", "fisher", "output", "output-stochastic", "decoder"]


def score(
    model: Any,
    images: Any,
    *,
    metric: Metric | None = None,
    top: int | None = None,
    spectrum: Literal["auto", "full", "top"] | None = None,
    margin: float | None = None,
    precision: Literal["f32", "f64"] | None = None,
    labels: Any = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    config: str | os.PathLike[str] | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the command line's name
    batch: int | str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    split: str | None = None,
    shard: str | None = None,
    seed: int | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    full_scale: float | Literal["none"] | None = None,
    background: str | None = None,
    device: Any = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Scores:
    """Eigenvalues, leading directions and scores of a pullback metric, of each image.

    Args:
        model: A :class:`Model`, what it is made of (an ``nn.Module``), or the path of a TorchScript file or run folder.
        images: [N, ...]: a tensor on any device, a numpy array, a Dataset or DataLoader (streamed; labels kept), or what the command
            line takes for DATA. Floating point in [0, 1], bytes, 16 bits or bool. Samples may be images [C, H, W], vectors [D], series
            [C, T] or volumes [C, D, H, W].
        metric: "mean", "stochastic" (the default), "fisher", "output", "output-stochastic" or "decoder".
        top: How many eigenvectors are kept, as images of length 1; 0 unless given.
        spectrum: "full" (every eigenvalue), "top" (the leading eigenpairs, and estimates with standard errors), or "auto".
        margin: With the metric "mean", how far a reconstruction may change, in L2, for the margin of robustness (``scores["/margin/radius"]``).
        precision: "f32", or "f64", for which the model is copied.
        labels: Classes [N], beside a tensor or an array.
        out: A result file, the same as the command line's. An unfinished one is gone on with. Without it results are in memory.
        force: Replace ``out`` where it is there.
        config, set: A YAML file and single keys of it, ``{"score.top": 3}``. How a model in Python is read only :class:`Model` says.
        batch: Samples a pass, or "auto".
        limit, sample: The first so many samples, or a draw of so many.
        split, shard, layout, full_scale, background: As the command line's.
        seed: Seed of everything random; 0 unless given.
        device: For models that are opened from a path; a model in Python is asked where it lies.
        quiet, verbose: Warnings only; details too.

    Returns:
        :class:`Scores`: ``.spectrum`` [N, R], ``.directions`` [N, top, ...], ``.scores``, ``.frame()``.

    Raises:
        ValueError: Where the request, the model or the data are not what they should be; an exception of the model is its cause.
        OSError: Where reading or writing fails.
        MemoryError: Where memory runs out at the smallest batch.
        pullback.Error: Where the computation fails.
        KeyboardInterrupt: On Ctrl-C. Its attribute ``finished`` has the columns of the samples that are done, by path; with ``out`` the same
            call goes on after them.

    >>> import torch, pullback as pb
    >>> vae = torch.nn.Module()
    >>> vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    >>> vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 784), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
    >>> x, labels = pb.images("strokes", limit=4)
    >>> scores = pb.score(vae, x, labels=labels, metric="mean", top=2, quiet=True)
    >>> scores.spectrum.shape, scores.directions.shape
    (torch.Size([4, 3]), torch.Size([4, 2, 1, 28, 28]))
    >>> torch.allclose(scores["trace"], scores.spectrum.sum(1))
    True
    """
    options = {
        "--metric": metric,
        "--top": top,
        "--spectrum": spectrum,
        "--margin": margin,
        "--precision": precision,
        **_shared(config, set, batch, limit, sample, split, shard, seed, layout, full_scale, background),
    }
    return _evaluate(Scores, "score", model, images, labels, out, force, device, options, quiet, verbose)


def attack(
    model: Any,
    images: Any,
    *,
    attacks: str | Sequence[str] | None = None,
    norm: Literal["l1", "l2", "linf"] | None = None,
    eps: float | Sequence[float] | None = None,
    goal: str | None = None,
    target: str | int | None = None,
    eot: int | None = None,
    through: str | Sequence[str] | None = None,
    judge: Callable[[Tensor], Tensor] | str | os.PathLike[str] | None = None,
    judge_reads: Literal["latent", "reconstruction"] | None = None,
    layers: str | Sequence[str] | None = None,
    metric: Metric | None = None,
    spectrum: Literal["auto", "full", "top"] | None = None,
    top: int | None = None,
    scale: str | None = None,
    steps: int | None = None,
    step: float | None = None,
    restarts: int | None = None,
    start: str | None = None,
    starts: str | Sequence[str] | None = None,
    schedule: str | None = None,
    momentum: float | None = None,
    budget: int | None = None,
    draws: int | None = None,
    queries: int | None = None,
    reach: float | None = None,
    universal_on: int | None = None,
    box: bool | None = None,
    save_images: bool | None = None,
    save_png: str | os.PathLike[str] | None = None,
    precision: Literal["f32", "f64"] | None = None,
    labels: Any = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    config: str | os.PathLike[str] | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the command line's name
    batch: int | str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    split: str | None = None,
    shard: str | None = None,
    seed: int | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    full_scale: float | Literal["none"] | None = None,
    background: str | None = None,
    device: Any = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Attack:
    """Attacks each image and measures the damage.

    Args:
        attacks: Names, such as ["spectral", "random", "race"] (the default), "transfer", "pgd", "apgd", "spectral-iterated",
            "square", "minimal", "universal" or "suite" (docs/attacks.md).
        norm: The norm that bounds a perturbation: "l2" (the default), "linf" or "l1".
        eps: Sizes of the perturbation, of pixel values from 0 to 1: [0.5, 1, 2, 4] in l2, [0.05, 0.1, 0.2] in linf, [5, 10, 20, 40] in l1
            unless given.
        goal: What counts as damage: "latent" (the default) and others (docs/attacks.md).
        target: Lead towards "zero", "shuffle", the image at a position, codes of a file ("code:FILE"), or the first of a data set.
        eot: Draws of the latent code over which goals of the reconstruction take the mean; unless given, the code is mu.
        through: Defences in front of the model, such as ["jpeg:75", "resize:14"].
        judge: A differentiable callable (an nn.Module or a function), or the path of a TorchScript file: from reconstructions [B, ...] in
            [0, 1], or codes [B, L], to one value for each sample, [B], which attacks increase, or several, [B, K], which they move.
            The goal is then "judge".
        judge_reads: What the judge is given: "reconstruction" (the default) or "latent".
        layers: Names of modules inside the model, such as ["encoder.down_blocks.0"]: attacks change their outputs. The goal is then
            "layers".
        top, scale, steps, step, restarts, start, starts, schedule, momentum, budget, draws, queries, reach, universal_on: Settings of the
            attacks, as the command line's; ``starts`` is a list.
        box: Clip attacked images to [0, 1]; True unless given.
        save_images: Keep the attacked images; True unless given where results are in memory, False with ``out``.
        save_png: A folder for the attacked images as 8-bit PNG files; they are judged as rounded.

    The other arguments, and what is raised, are those of :func:`score`.

    Returns:
        :class:`Attack`: ``.images[name]`` [E, N, ...], ``.damage[name]`` [E, N], ``.measure(name, "latent_l2")``, ``.frame()``.

    >>> import torch, pullback as pb
    >>> vae = torch.nn.Module()
    >>> vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    >>> vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 784), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
    >>> x, labels = pb.images("strokes", limit=4)
    >>> found = pb.attack(vae, x, attacks=["spectral", "random"], metric="mean", eps=[0.5, 1], quiet=True)
    >>> found.names, found.images["spectral"].shape
    (['random', 'spectral'], torch.Size([2, 4, 1, 28, 28]))
    >>> bool((found.damage["spectral"] > found.damage["random"]).all())
    True
    """
    named = [attacks] if isinstance(attacks, str) else attacks
    defences = [through] if isinstance(through, str) else through
    # Numbers of numpy and tensors without axes are one size too.
    sizes: Any = [eps] if isinstance(eps, (int, float)) or getattr(eps, "ndim", None) == 0 else eps
    inside = [layers] if isinstance(layers, str) else layers
    asked = judge if judge is None or isinstance(judge, (str, os.PathLike)) else Judge(judge)
    kept_images = out is None if save_images is None else save_images
    options: dict[str, Any] = {
        "--attack": None if named is None else ",".join(named),
        "--norm": norm,
        "--eps": None if sizes is None else ",".join(repr(float(e)) for e in sizes),
        "--goal": goal,
        "--target": target,
        "--eot": eot,
        "--through": ",".join(defences) if defences else None,
        "--judge": asked.name if isinstance(asked, Judge) else None if asked is None else os.fspath(asked),
        "--judge-reads": judge_reads,
        "--layers": None if inside is None else ",".join(inside),
        "--metric": metric,
        "--spectrum": spectrum,
        "--top": top,
        "--scale": scale,
        "--steps": steps,
        "--step": step,
        "--restarts": restarts,
        "--start": start,
        "--starts": starts if starts is None or isinstance(starts, str) else ",".join(starts),
        "--schedule": schedule,
        "--momentum": momentum,
        "--budget": budget,
        "--draws": draws,
        "--queries": queries,
        "--reach": reach,
        "--universal-on": universal_on,
        "--box": None if box is None else "on" if box else "off",
        "--save-images": True if kept_images else None,
        "--save-png": None if save_png is None else os.fspath(save_png),
        "--precision": precision,
        **_shared(config, set, batch, limit, sample, split, shard, seed, layout, full_scale, background),
    }
    if save_images is not None and not save_images:
        # No flag says it: an assignment does, and the last one counts.
        options["--set"] = [*(options["--set"] or ()), "attack.images=no"]
    own = asked if isinstance(asked, Judge) else None
    return _evaluate(Attack, "attack", model, images, labels, out, force, device, options, quiet, verbose, own)


def images(
    data: str | os.PathLike[str],
    *,
    limit: int | None = None,
    split: str | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    full_scale: float | Literal["none"] | None = None,
    background: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What the command line takes for DATA as tensors: to train on, or to look at. What it says of data, such as labels that are left out, is
    warned of.

    Args:
        data: "strokes" (generated digits), a folder, an HDF5, .npy or .npz file (docs/data.md).
        limit: The first so many samples; all unless given, in memory.
        split, layout, full_scale, background: As the command line's.

    Returns:
        Images [N, ...] float32 in [0, 1], and classes [N] int64, or None where the data have none.

    Raises:
        ValueError, OSError: As :func:`score`.

    >>> x, y = images("strokes", limit=3)
    >>> x.shape, y.shape
    (torch.Size([3, 1, 28, 28]), torch.Size([3]))
    """
    options = _shared(None, None, None, limit, None, split, None, None, layout, full_scale, background)
    told = {"--model": "none", "--data": os.fspath(data), "--output": "none.h5"}
    return _native.read_images(_arguments("score", {**told, **options}))


def _shared(
    config: Any,
    keys: Any,
    batch: Any,
    limit: Any,
    sample: Any,
    split: Any,
    shard: Any,
    seed: Any,
    layout: Any,
    full_scale: Any,
    background: Any,
) -> dict[str, Any]:
    return {
        "--config": None if config is None else os.fspath(config),
        "--set": None if keys is None else [f"{key}={_yaml(value)}" for key, value in dict(keys).items()],
        "--batch": batch,
        "--limit": limit,
        "--sample": sample,
        "--split": split,
        "--shard": shard,
        "--seed": seed,
        "--layout": layout,
        "--full-scale": full_scale,
        "--background": background,
    }


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    if isinstance(value, Mapping):
        # JSON is YAML, with words in quotes.
        return json.dumps(dict(value), ensure_ascii=False, default=str)
    return str(value)


def _arguments(command: str, options: Mapping[str, Any]) -> list[str]:
    """The command line that asks for the same."""
    arguments = ["pullback", command]
    for flag, value in options.items():
        match value:
            case None:
                pass
            case True:
                arguments.append(flag)
            case list():
                arguments += [part for one in value for part in (flag, one)]
            case _:
                # In one word, so that a value that begins with a dash is one.
                arguments.append(f"{flag}={value}")
    return arguments


def _evaluate(
    made: Any,
    command: str,
    model: Any,
    images: Any,
    labels: Any,
    out: Any,
    force: bool,
    device: Any,
    options: dict[str, Any],
    quiet: bool,
    verbose: bool,
    judge: Judge | None = None,
) -> Any:
    if labels is not None and is_path(images):
        raise Ask("labels: expected beside a tensor or an array only, found a path, whose data have their own")
    of_path = isinstance(model, (str, os.PathLike))
    asked = None if of_path else model if isinstance(model, Model) else Model(model)
    if asked is not None and device is not None and str(device) not in ("auto", str(asked.device)):
        raise Ask(
            f"device: expected {asked.device}, where the model lies, found {device} (model.to({str(device)!r}) moves it)"
        )
    if asked is not None:
        refuse_other(asked, options["--config"], options["--set"])
    rows = None if is_path(images) else rows_of(images, labels, options["--limit"], None)
    if rows is not None and rows.warning is not None:
        # This function, the public one, its caller.
        warnings.warn(rows.warning, PullbackWarning, stacklevel=3)
    told = {
        "--model": os.fspath(model) if of_path else asked.name,  # type: ignore[union-attr]
        "--data": rows.name if rows is not None else os.fspath(images),
        "--force": force or None,
        "--device": device if of_path else _device(asked),  # type: ignore[arg-type]
    }
    if asked is not None:
        told |= interface_of(asked)
    listener = Listener(quiet, verbose)
    folder = tempfile.mkdtemp(prefix="pullback-") if out is None else None
    path = Path(out) if folder is None else Path(folder, f"{command}.h5")
    try:
        arguments = _arguments(command, {**told, "--output": os.fspath(path), **options})
        with kept(asked.module if asked is not None else None), kept(judge.module if judge is not None else None):
            _native.evaluate(arguments, asked, rows, judge, listener, folder is not None)
        return made(path, folder)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            # Until this call has begun to store, what lies there is another's.
            own = folder is not None or listener._task[0] in _STORING
            error.finished = _finished(path) if own else {}  # type: ignore[attr-defined]
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        elif asked is not None:
            asked._unlike()
        raise
    finally:
        # Work that ended early has not closed its bar.
        listener.end()
        if asked is not None:
            asked._forget()


#: The engine's work whose rows are stored; it is begun once the result file is.
_STORING = ("scoring", "attacking")


def _finished(path: Path) -> dict[str, Tensor]:
    """What an interrupted run leaves."""
    try:
        return _native.finished(path)
    except (ValueError, OSError):
        return {}


def _device(model: Model) -> str:
    device = model.device
    kind, index = device.type, device.index
    if kind not in ("cpu", "cuda"):
        raise Ask(
            f"{model.name}: expected a model on the CPU or a CUDA device, found it on {device} (model.cpu() moves it)"
        )
    return kind if index is None else f"{kind}:{index}"
