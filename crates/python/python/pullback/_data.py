"""Images as people have them, as rows by position."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from ._outputs import Ask, told

_IMAGES = ("image", "images", "pixel_values", "img", "imgs", "x", "data")
_LABELS = ("label", "labels", "target", "targets", "y", "class")


class Rows:
    """Samples by position, read when they are asked for.

    `read` gives the images of some positions, and what there is beside them. The name is `name`, or `kind` and a short hash of the first
    sample and of the positions `chosen`, by which reports tell two data sets of one kind apart."""

    def __init__(
        self,
        name: str | None,
        kind: str,
        count: int,
        read: Callable[[Sequence[int]], tuple[Any, Any]],
        chosen: Sequence[int] | None = None,
    ) -> None:
        self.name = name or kind
        self._count, self._read = count, read
        if count == 0:
            raise Ask(f"{self.name}: expected at least one sample, found none")
        with _readable(self.name):
            values, labels = read([0])
            first, self.numbers, self.type_name = _numbers(values, self.name)
        self.axes = [count, *first.shape[1:]]
        self.has_labels = _classes(labels, 1) is not None
        #: What is to be warned of.
        self.warning: str | None = None
        if labels is not None and not self.has_labels:
            self.warning = _left_out(labels)
        if name is None:
            seen = hashlib.sha256(first[0].reshape(-1).view(torch.uint8).numpy().tobytes())
            if chosen is not None:
                seen.update(np.asarray(chosen).astype("<i8").tobytes())
            self.name = f"{kind} {seen.hexdigest()[:6]}"

    def read(self, index: list[int]) -> tuple[Tensor, list[int] | None]:
        """Rows [n, ...] on the CPU and their labels."""
        values, labels = self._read(index)
        tensor, _, _ = _numbers(values, self.name)
        if not self.has_labels:
            return tensor, None
        classes = _classes(labels, len(index))
        if classes is None:
            raise Ask(
                f"{self.name}: expected one class of each sample, as the first has, found samples without (items that are images alone leave labels out)"
            )
        return tensor, classes


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
        if isinstance(images, Tensor) and images.layout != torch.strided:
            raise Ask(f"images: expected a dense tensor, found one of layout {str(images.layout).removeprefix('torch.')}")
        if images.ndim < 2:
            raise Ask(f"images: expected [N, ...], one sample a row, found {list(images.shape)}")
        beside = None if labels is None else _each(labels)
        if beside is not None and beside.size == len(images):
            beside = beside.reshape(-1)
        if beside is not None and beside.shape[:1] != (len(images),):
            found = len(beside) if beside.ndim else 1
            raise Ask(f"labels: expected one for each of {len(images)} images, found {found}")
        if beside is not None and beside.ndim == 1 and beside.dtype.kind == "f":
            whole = np.isfinite(beside) & (beside == np.rint(beside))
            beside = beside.astype(np.int64) if whole.all() else beside
        held = images.detach() if isinstance(images, Tensor) else images

        def read(index: Sequence[int]) -> tuple[Any, Any]:
            rows = _run(index)
            if beside is None:
                return held[rows], None
            return held[rows], beside[rows].tolist() if beside.ndim == 1 else list(beside[rows])

        return Rows(name, f"{type(images).__name__} {list(images.shape)}", len(images), read)
    if labels is not None:
        raise Ask("labels: expected beside a tensor or an array only, found a data set that has its own")
    if isinstance(images, DataLoader):
        return _of_loader(images, limit, name)
    if isinstance(images, IterableDataset):
        return _of_iterable(images, limit, name, type(images).__name__)
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        return Rows(
            name, type(images).__name__, len(images), lambda index: _stacked([_parts(images[i]) for i in index])
        )
    raise Ask(
        f"images: expected a tensor, a numpy array, a Dataset, a DataLoader or a path, found {type(images).__name__}"
    )


def _run(index: Sequence[int]) -> slice | list[int]:
    """Positions that follow each other as a slice, which needs no copy of a tensor's rows."""
    follow = list(index) == list(range(index[0], index[0] + len(index)))
    return slice(index[0], index[-1] + 1) if follow else list(index)


def is_path(images: Any) -> bool:
    """True where the command line's readers are meant."""
    return isinstance(images, (str, os.PathLike))


def _of_loader(loader: DataLoader[Any], limit: int | None, name: str | None) -> Rows:
    data: Any = loader.dataset
    kind = type(data).__name__
    # Without a batch sampler items are not put together, and collate_fn is given one at a time.
    batches = loader.batch_sampler is not None
    if isinstance(data, IterableDataset):
        return _of_iterable(loader, limit, name, kind, batched=batches)
    chosen = _chosen(loader)

    def read(index: Sequence[int]) -> tuple[Any, Any]:
        items = [data[i if chosen is None else chosen[i]] for i in index]
        return _parts(loader.collate_fn(items)) if batches else _stacked([_parts(loader.collate_fn(i)) for i in items])

    if chosen is None:
        return Rows(name, kind, len(data), read)
    return Rows(name, f"{len(chosen)} of {kind}", len(chosen), read, chosen)


def _chosen(loader: DataLoader[Any]) -> list[int] | None:
    """The positions of the samples that a loader takes, ascending; None where it takes each of its data set once, in whatever order."""
    count = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    sampler: Any = loader.sampler
    # batch_size is None with a batch sampler of one's own, which then chooses.
    own = loader.batch_sampler if loader.batch_size is None else None
    if own is None and type(sampler) in (SequentialSampler, RandomSampler) and len(sampler) == count:
        if not getattr(sampler, "replacement", False) and len(sampler.data_source) == count:
            return None
    places = [i for batch in own for i in batch] if own is not None else list(sampler)
    if any(isinstance(i, (list, tuple)) for i in places):
        raise Ask(
            "images: expected a DataLoader whose sampler gives one position at a time, found one that gives several"
        )
    chosen = sorted(int(i) for i in places)
    return None if count is not None and chosen == list(range(count)) else chosen


def _of_iterable(stream: Any, limit: int | None, name: str | None, kind: str, batched: bool = False) -> Rows:
    """A stream has no positions: its samples, as many as are wanted, are held."""
    images: list[Tensor] = []
    labels: list[int] = []
    others: list[Any] = []
    count = 0
    with _readable(name or kind):
        for item in stream:
            values, own = _parts(item)
            tensor = _tensor(values)
            if not batched:
                tensor, own = tensor[None], None if own is None else [own]
            # A stream may fill the same buffer again for its next item.
            images.append(tensor.clone())
            classes = _classes(own, len(tensor))
            if classes is None:
                others.append(own)
            else:
                labels += classes
            count += len(tensor)
            if limit is not None and count >= limit:
                break
    if not images:
        raise Ask(f"{name or kind}: expected at least one sample, found none")
    with _readable(name or kind):
        held = torch.cat(images)
    known = None if others else labels
    rows = Rows(
        name, kind, len(held), lambda index: (held[_run(index)], None if known is None else [known[i] for i in index])
    )
    if labels and others or any(own is not None for own in others):
        rows.warning = _left_out(next((own for own in others if own is not None), None))
    return rows


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """What a data set raises is the cause of one line, as that of samples that the engine asks for later is."""
    try:
        yield
    except Ask:
        raise
    except Exception as error:
        raise Ask(f"{name}: expected samples that can be read, found {told(error)}") from error


def _parts(item: Any) -> tuple[Any, Any]:
    """Image and label of an item, or images and labels of a batch."""
    if isinstance(item, Mapping):
        image = next((item[k] for k in _IMAGES if k in item), None)
        if image is None:
            raise Ask(f"images: expected one of {', '.join(_IMAGES)} in each item, found {', '.join(map(str, item))}")
        return image, next((item[k] for k in _LABELS if k in item), None)
    if isinstance(item, (tuple, list)):
        return item[0], item[1] if len(item) > 1 else None
    if (
        hasattr(item, "data")
        and hasattr(item, "keys") is False
        and not isinstance(item, (Tensor, np.ndarray))
        and isinstance(item.data, Tensor)
    ):
        return item.data, getattr(item, "labels", None)
    return item, None


def _classes(labels: Any, count: int) -> list[int] | None:
    """One class for each of so many samples; None for what is none (boxes, words, several values)."""
    if labels is None:
        return None
    try:
        if isinstance(labels, (list, tuple)):
            # What a label itself holds, such as [3], is one value at most.
            labels = np.asarray([_array(label).item() for label in labels])
        values = _array(labels)
    except ValueError:
        return None
    if values.dtype.kind not in "biu" or values.size != count or values.shape[:1] not in ((), (count,)):
        return None
    return [int(value) for value in values.reshape(-1)]


def _left_out(labels: Any) -> str:
    if isinstance(labels, (list, tuple)):
        labels = next((label for label in labels if _classes([label], 1) is None), labels)
    if isinstance(labels, (Tensor, np.ndarray)):
        found = f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
    else:
        found = "none of some" if labels is None else type(labels).__name__
    return f"labels are left out: expected one class, a whole number, of each sample, found {found}"


def _each(labels: Any) -> np.ndarray[Any, Any]:
    """Labels of all samples as an array, of objects where they differ in length."""
    try:
        return _array(labels)
    except ValueError:
        each = np.empty(len(labels), dtype=object)
        each[:] = list(labels)
        return each


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def _tensor(values: Any) -> Tensor:
    """Values as a tensor on the CPU."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values)
    # A copy: torch takes this machine's order of bytes and no negative strides, which an axis of length 1 may have even in an array that is in
    # order, and it warns of an array that is read-only.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _stacked(parts: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    labels = [label for _, label in parts]
    images = torch.stack([_tensor(image) for image, _ in parts])
    return images, None if all(label is None for label in labels) else labels


def _numbers(values: Any, name: str) -> tuple[Tensor, str, str]:
    """Values as a tensor on the CPU, what kind of numbers they are, and what their type is called."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        raise Ask(f"{name}: expected uint8, uint16, bool or floating point, found {values.dtype}")
    tensor = _tensor(values).contiguous()
    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        raise Ask(f"{name}: expected a dense tensor of real numbers, found {tensor.dtype}")
    called = str(tensor.dtype).removeprefix("torch.")
    if tensor.dtype == torch.uint16:
        return tensor.to(torch.int32), "words", called
    if tensor.dtype in (torch.uint32, torch.uint64):
        return tensor.to(torch.int64), "whole", called
    kind = {torch.bool: "bool", torch.uint8: "bytes"}.get(
        tensor.dtype, "float" if tensor.is_floating_point() else "whole"
    )
    return tensor, kind, called
