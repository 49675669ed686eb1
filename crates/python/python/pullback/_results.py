"""Results as objects: the columns of a result file as tensors."""

from __future__ import annotations

import builtins
import contextlib
import os
import secrets
import shutil
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import _native
from ._outputs import Ask

if TYPE_CHECKING:
    import pandas


class Results(Mapping[str, Tensor]):
    """What was measured of each sample: a mapping from the paths of a result file (docs/formats.md) to tensors on the CPU.

    ``results["/scores/trace"]`` and ``results["trace"]`` are the same, where one column alone ends in ``/trace``. Columns are read, and
    compared with their checksums, when they are first asked for.

    Raises:
        KeyError: For a column that is not there.
        ValueError: For a file that is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], _folder: str | None = None) -> None:
        #: The file that holds the results; a temporary one where ``out`` was not given.
        self.path = Path(path)
        self._folder = _folder
        if _folder is not None:
            weakref.finalize(self, shutil.rmtree, _folder, ignore_errors=True)
        self._file = _native.ResultFile(self.path)
        self._read: dict[str, Tensor] = {}
        #: What the file says of its run: model, dataset, metric, seed, precision, version.
        self.attributes: dict[str, str] = self._file.attributes
        #: Shape of each column.
        self.shapes: dict[str, list[int]] = self._file.shapes

    def __getitem__(self, name: str) -> Tensor:
        path = self._path(name)
        if path not in self._read:
            self._read[path] = self._file.read(path)
        return self._read[path]

    def _path(self, name: str) -> str:
        if name in self.shapes:
            return name
        # The standard error of a score is not the score, nor is damage over passes the damage.
        beside = ("/scores_se/", "/curve/")
        ends = [p for p in self.shapes if p.endswith(f"/{name.lstrip('/')}") and not p.startswith(beside)]
        if len(ends) != 1:
            found = f"one of {', '.join(ends)}" if ends else f"one of {', '.join(self.shapes)}"
            raise KeyError(f"{name}: expected {found}")
        return ends[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def index(self) -> Tensor:
        """Position of each row's sample in the data, [N] int64."""
        return self["/index"]

    @property
    def labels(self) -> Tensor | None:
        """Class of each sample, [N] int64, where the data have classes."""
        return self.get("/label")

    def _below(self, prefix: str) -> list[str]:
        return sorted({p[len(prefix) :].split("/")[0] for p in self.shapes if p.startswith(prefix)})

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes the results as a file, the same that ``out=path`` writes. The file is there whole or not at all, and one that was there
        stays as it is until then; whoever has it open goes on with the old one.

        Raises:
            FileExistsError: Where it is there already, without ``force``.
            ValueError: Where something else than a file is there.
            OSError: Where it cannot be written.
        """
        path = os.fspath(path)
        if os.path.exists(path) and not os.path.isfile(path):
            found = "a folder" if os.path.isdir(path) else "a special file"
            raise Ask(f"{path}: expected the name of a file to write, found {found}")
        if os.path.lexists(path) and not force:
            raise _taken(path)
        folder, name = os.path.split(path)
        copy = os.path.join(folder, f".pullback-{os.getpid()}-{secrets.token_hex(4)}-{name}")
        try:
            with builtins.open(self.path, "rb") as held, builtins.open(copy, "xb") as file:
                shutil.copyfileobj(held, file)
                file.flush()
                os.fsync(file.fileno())
            _name(copy, path, force)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(copy)

    def _base(self) -> dict[str, Any]:
        labels = self.labels
        base = {"index": self.index.numpy()}
        return base if labels is None else {**base, "label": labels.numpy()}

    def __repr__(self) -> str:
        count = len(self.index)
        kept = "" if self._folder is not None else f", in {self.path}"
        return f"<pullback.{type(self).__name__}: {count} sample{'s' if count != 1 else ''} of {self.attributes['dataset']}, {self.attributes['model']}{kept}>"

    def __str__(self) -> str:
        return _native.findings(self.path).rstrip()

    def _repr_html_(self) -> str:
        from ._report import framed

        return framed([self])


def _taken(path: str) -> FileExistsError:
    return FileExistsError(f"{path}: expected a new file (or force=True), found one that exists")


def _name(copy: str, path: str, force: bool) -> None:
    """Gives a complete file its name in one step."""
    if force:
        return os.replace(copy, path)
    try:
        # Unlike a rename it fails where a file has appeared meanwhile.
        os.link(copy, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:
        # Some file systems have no hard links.
        os.rename(copy, path)


class Scores(Results):
    """Spectra and scores of a pullback metric, of N samples. See :func:`pullback.score`."""

    @property
    def spectrum(self) -> Tensor:
        """Eigenvalues of each sample's metric, [N, R] float64, descending; their square roots tell how many units of code (of sigma, of
        nats: docs/mathematics.md) a change of one unit of pixel values moves."""
        return self["/spectrum/eigenvalues"]

    @property
    def directions(self) -> Tensor | None:
        """The leading ``top`` eigenvectors, of length 1, as images [N, top, ...] float32; None where ``top`` is 0."""
        return self.get("/spectrum/directions")

    @property
    def scores(self) -> dict[str, Tensor]:
        """Each score by its name, [N] float64."""
        return {name: self[f"/scores/{name}"] for name in self._below("/scores/")}

    def frame(self) -> pandas.DataFrame:
        """A row a sample: its position, class and scores.

        Raises:
            ImportError: Where pandas is not installed.
        """
        import pandas

        return pandas.DataFrame({**self._base(), **{name: values.numpy() for name, values in self.scores.items()}})


class Attack(Results):
    """Attacked images and the damage done, of N samples at E sizes. See :func:`pullback.attack`."""

    @property
    def names(self) -> list[str]:
        """The attacks."""
        return self._below("/attack/")

    @property
    def eps(self) -> Tensor:
        """Sizes of the perturbation in the norm, [E] float64, pixel values from 0 to 1."""
        return self["/eps"]

    def measure(self, attack: str, name: str) -> Tensor:
        """What was measured of an attack, such as ``latent_l2`` or ``recon_mse``, [E, N] float64."""
        return self[f"/attack/{attack}/{name}"]

    @property
    def damage(self) -> dict[str, Tensor]:
        """Of each attack the value of its goal, [E, N] float64."""
        return {name: self[f"/damage/{name}"] for name in self._below("/damage/")}

    @property
    def images(self) -> dict[str, Tensor]:
        """Of each attack its images, [E, N, ...] float32 in [0, 1]; empty where they were not kept."""
        return {name: self[f"/attack/{name}/images"] for name in self.names if f"/attack/{name}/images" in self.shapes}

    @property
    def reconstructions(self) -> dict[str, Tensor]:
        """Of each attack what the model makes of its images, [E, N, ...] float32; empty where they were not kept."""
        return {name: self[f"/attack/{name}/recon"] for name in self.names if f"/attack/{name}/recon" in self.shapes}

    def frame(self) -> pandas.DataFrame:
        """A row an attack, a size and a sample: what was measured.

        Raises:
            ImportError: Where pandas is not installed.
        """
        import pandas

        parts = []
        for attack in self.names:
            told = [m for m in self._below(f"/attack/{attack}/") if m not in ("images", "recon")]
            for place, eps in enumerate(self.eps.tolist()):
                measured = {m: self.measure(attack, m)[place].numpy() for m in told}
                measured["damage"] = self.damage[attack][place].numpy()
                parts.append(pandas.DataFrame({"attack": attack, "eps": eps, **self._base(), **measured}))
        return pandas.concat(parts, ignore_index=True)


def open(path: str | os.PathLike[str]) -> Results:  # noqa: A001 - pb.open reads well
    """Opens a result file of :func:`pullback.score`, :func:`pullback.attack` or the command line.

    Raises:
        FileNotFoundError: Where there is none.
        ValueError: Where it is no result, an unfinished one, or damaged.

    >>> import torch, pullback as pb
    >>> vae = torch.nn.Module()
    >>> vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    >>> vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 784), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
    >>> x, labels = pb.images("strokes", limit=4)
    >>> scores = pb.score(vae, x, metric="mean", out="scores.h5", quiet=True)
    >>> pb.open("scores.h5")
    <pullback.Scores: 4 samples of Tensor [4, 1, 28, 28] ..., Module, in scores.h5>
    >>> torch.equal(pb.open("scores.h5").spectrum, scores.spectrum)
    True
    """
    kind = _native.ResultFile(Path(path)).attributes["kind"]
    made = {"scores": Scores, "attack": Attack}.get(kind, Results)
    return made(path)


def paths(results: Any) -> list[Path]:
    """The files of results, of paths, or of a list of both."""
    if isinstance(results, (str, os.PathLike)):
        return [Path(results)]
    if isinstance(results, Results):
        return [results.path]
    try:
        return [path for one in results for path in paths(one)]
    except TypeError:
        raise Ask(f"results: expected results, paths, or a list of them, found {type(results).__name__}") from None
