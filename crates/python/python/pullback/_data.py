"""Images as people have them, as rows by position."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from ._outputs import Ask

_IMAGES = ("image", "images", "pixel_values", "img", "imgs", "x", "data")
_LABELS = ("label", "labels", "target", "targets", "y", "class")


class Rows:
    """Samples by position, read when they are asked for."""

    def __init__(self, name: str, count: int, read: Callable[[Sequence[int]], tuple[Any, Any]]) -> None:
        self.name = name
        self._count, self._read = count, read
        if count == 0:
            raise Ask(f"{name}: expected at least one sample, found none")
        values, labels = read([0])
        first, self.numbers, self.type_name = _numbers(values, name)
        self.axes = [count, *first.shape[1:]]
        self.has_labels = labels is not None

    def read(self, index: list[int]) -> tuple[Tensor, list[int] | None]:
        """Rows [n, ...] on the CPU and their labels."""
        values, labels = self._read(index)
        tensor, _, _ = _numbers(values, self.name)
        return tensor, None if labels is None else [int(label) for label in labels]


def rows_of(images: Any, labels: Any, limit: int | None, name: str | None) -> Rows:
    """Rows of a tensor, an array, a Dataset or a DataLoader, with `labels` [N] beside tensors and arrays."""
    if (
        isinstance(images, tuple)
        and len(images) == 2
        and labels is None
        and isinstance(images[0], (Tensor, np.ndarray))
    ):
        images, labels = images
    if isinstance(images, (Tensor, np.ndarray)):
        if images.ndim < 2:
            raise Ask(f"images: expected [N, ...], one sample a row, found {list(images.shape)}")
        beside = None if labels is None else np.asarray(torch.as_tensor(labels).cpu()).reshape(-1)
        if beside is not None and len(beside) != len(images):
            raise Ask(f"labels: expected one for each of {len(images)} images, found {len(beside)}")
        held = images.detach() if isinstance(images, Tensor) else images

        def read(index: Sequence[int]) -> tuple[Any, Any]:
            return held[list(index)], None if beside is None else beside[list(index)]

        return Rows(name or f"{type(images).__name__} {list(images.shape)}", len(images), read)
    if labels is not None:
        raise Ask("labels: expected beside a tensor or an array only, found a data set that has its own")
    if isinstance(images, DataLoader):
        return _of_loader(images, limit, name)
    if isinstance(images, IterableDataset):
        return _of_iterable(images, limit, name or type(images).__name__)
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return Rows(
            name or type(images).__name__, len(images), lambda index: _stacked([_parts(images[i]) for i in index])
        )
    raise Ask(
        f"images: expected a tensor, a numpy array, a Dataset, a DataLoader or a path, found {type(images).__name__}"
    )


def is_path(images: Any) -> bool:
    """True where the command line's readers are meant."""
    return isinstance(images, (str, os.PathLike))


def _of_loader(loader: DataLoader[Any], limit: int | None, name: str | None) -> Rows:
    data = loader.dataset
    name = name or type(data).__name__
    if isinstance(data, IterableDataset):
        return _of_iterable(loader, limit, name, batched=loader.batch_size is not None)
    # A shuffled loader has the samples of its data set, which keep their positions; another sampler chooses some.
    chosen = None
    if loader.sampler is not None and not isinstance(loader.sampler, (SequentialSampler, RandomSampler)):
        chosen = sorted(int(i) for i in loader.sampler)
    place = (lambda i: i) if chosen is None else chosen.__getitem__
    collate = loader.collate_fn if loader.batch_size is not None else None

    def read(index: Sequence[int]) -> tuple[Any, Any]:
        items = [data[place(i)] for i in index]
        return _stacked([_parts(item) for item in items]) if collate is None else _parts(collate(items))

    return Rows(name, len(data) if chosen is None else len(chosen), read)  # type: ignore[arg-type]


def _of_iterable(stream: Any, limit: int | None, name: str, batched: bool = False) -> Rows:
    """A stream has no positions: its samples, as many as are wanted, are held."""
    images: list[Tensor] = []
    labels: list[int] = []
    count = 0
    for item in stream:
        values, own = _parts(item)
        tensor = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
        if not batched:
            tensor, own = tensor[None], None if own is None else [own]
        images.append(tensor.detach().cpu())
        labels += [] if own is None else [int(label) for label in own]
        count += len(tensor)
        if limit is not None and count >= limit:
            break
    if not images:
        raise Ask(f"{name}: expected at least one sample, found none")
    held = torch.cat(images)
    known = labels if len(labels) == len(held) else None
    return Rows(
        name, len(held), lambda index: (held[list(index)], None if known is None else [known[i] for i in index])
    )


def _parts(item: Any) -> tuple[Any, Any]:
    """Image and label of an item, or images and labels of a batch."""
    if isinstance(item, Mapping):
        image = next((item[k] for k in _IMAGES if k in item), None)
        if image is None:
            raise Ask(f"images: expected one of {', '.join(_IMAGES)} in each item, found {', '.join(map(str, item))}")
        return image, _label(next((item[k] for k in _LABELS if k in item), None))
    if isinstance(item, (tuple, list)):
        return item[0], _label(item[1] if len(item) > 1 else None)
    if (
        hasattr(item, "data")
        and hasattr(item, "keys") is False
        and not isinstance(item, (Tensor, np.ndarray))
        and isinstance(item.data, Tensor)
    ):
        return item.data, _label(getattr(item, "labels", None))
    return item, None


def _label(label: Any) -> Any:
    """A class, or one each; None for what is none (boxes, words, several values)."""
    if isinstance(label, Tensor):
        return None if label.is_floating_point() or label.ndim > 1 else label
    if isinstance(label, np.ndarray):
        return label if label.ndim <= 1 and np.issubdtype(label.dtype, np.integer) else None
    return label if isinstance(label, (int, np.integer)) else None


def _stacked(parts: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    images = [image if isinstance(image, Tensor) else torch.as_tensor(np.asarray(image)) for image, _ in parts]
    labels = [label for _, label in parts]
    return torch.stack([i.detach().cpu() for i in images]), None if any(label is None for label in labels) else labels


def _numbers(values: Any, name: str) -> tuple[Tensor, str, str]:
    """Values as a tensor on the CPU, what kind of numbers they are, and what their type is called."""
    if isinstance(values, np.ndarray):
        if values.dtype == np.uint16:
            return torch.from_numpy(values.astype(np.int32)), "words", "uint16"
        if values.dtype in (np.uint32, np.uint64):
            return torch.from_numpy(values.astype(np.int64)), "whole", str(values.dtype)
        if values.dtype.kind not in "biuf":
            raise Ask(f"{name}: expected uint8, uint16, bool or floating point, found {values.dtype}")
        values = torch.from_numpy(np.ascontiguousarray(values))
    tensor = values.detach().cpu().contiguous()
    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        raise Ask(f"{name}: expected a dense tensor of real numbers, found {tensor.dtype}")
    kind = {torch.bool: "bool", torch.uint8: "bytes"}.get(
        tensor.dtype, "float" if tensor.is_floating_point() else "whole"
    )
    return tensor, kind, str(tensor.dtype).removeprefix("torch.")
