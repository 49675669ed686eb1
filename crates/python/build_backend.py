"""Builds by maturin, with the libtorch of the environment that the package goes into.

pip builds in an environment of its own, which has no torch; where packages of the one around it lie, sysconfig knows there too."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from typing import Any

import maturin
from maturin import (  # noqa: F401 - the hooks that need nothing more
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

WANTED = "2.11"


def _prepared() -> None:
    """LIBTORCH, for the build scripts, unless the caller has set it."""
    if os.environ.get("LIBTORCH"):
        return
    spec = importlib.util.find_spec("torch")
    places = list(spec.submodule_search_locations or []) if spec else []
    places += [os.path.join(sysconfig.get_path(key), "torch") for key in ("platlib", "purelib")]
    torch = next((Path(place) for place in places if Path(place, "lib").is_dir()), None)
    remedy = f"pip install 'torch=={WANTED}.*' first, or set LIBTORCH to the folder of a torch package"
    if torch is None:
        raise SystemExit(f"pullback: expected torch {WANTED} in {sysconfig.get_path('purelib')}, found none ({remedy})")
    said: dict[str, Any] = {}
    exec((torch / "version.py").read_text(), said)
    if not str(said["__version__"]).startswith(WANTED + "."):
        raise SystemExit(f"pullback: expected torch {WANTED}, found {said['__version__']} in {torch.parent} ({remedy})")
    link = Path(__file__).resolve().parents[2] / ".deps" / "libtorch"
    if link.exists() and link.resolve() == torch.resolve():
        # The checkout's own .cargo/config.toml names it; another name of it would have the engine compiled again.
        return
    os.environ["LIBTORCH"] = str(torch)
    os.environ.pop("LIBTORCH_USE_PYTORCH", None)


def build_wheel(*arguments: Any, **settings: Any) -> str:
    _prepared()
    return maturin.build_wheel(*arguments, **settings)


def build_editable(*arguments: Any, **settings: Any) -> str:
    _prepared()
    return maturin.build_editable(*arguments, **settings)
