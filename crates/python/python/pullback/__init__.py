"""How robust is a VAE? The local geometry of its encoder tells.

>>> import pullback as pb
>>> vae = pb.load("runs/strokes")  # of `pullback train`; any nn.Module with encode(x) and decode(z) will do
>>> images, labels = pb.images("strokes", limit=4)
>>> scores = pb.score(vae, images, metric="stochastic", top=5, quiet=True)
>>> attack = pb.attack(vae, images, attacks=["spectral", "race"], eps=[0.5, 1], quiet=True)
>>> pb.report([scores, attack], "report.html")

See docs/python.md and docs/bring-your-model.md.
"""

from __future__ import annotations

import atexit as _atexit

# First: the engine's own library finds libtorch where this has loaded it.
import torch as _torch

from ._version import BUILT_WITH as _BUILT_WITH

_wanted = ".".join(_BUILT_WITH.split(".")[:2])
_found = _torch.__version__.split("+")[0]
if ".".join(_found.split(".")[:2]) != _wanted:
    raise ImportError(
        f"pullback: expected torch {_wanted}, which it was built with, found torch {_found} (pip install 'torch=={_wanted}.*')"
    )

from ._export import export
from ._load import Network, load
from ._model import Model
from ._native import LIBTORCH, Error
from ._native import VERSION as __version__
from ._native import await_all as _await_all
from ._progress import PullbackWarning
from ._report import Figure, figure, report
from ._results import Attack, Results, Scores, open
from ._run import attack, images, score

# Work that somebody stopped waiting for must not meet an interpreter that ends.
_atexit.register(_await_all, 10.0)

__all__ = [
    "LIBTORCH",
    "Attack",
    "Error",
    "Figure",
    "Model",
    "Network",
    "PullbackWarning",
    "Results",
    "Scores",
    "__version__",
    "attack",
    "export",
    "figure",
    "images",
    "load",
    "open",
    "report",
    "score",
]
