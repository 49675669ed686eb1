"""Models, images and the program that tests share."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

# In the background of a shell Ctrl-C is ignored, and Python leaves it so; the tests send it to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared"


def library(name: str) -> None:
    """Skips the test where a library is not installed; with PULLBACK_REQUIRE_LIBRARIES=1 it fails."""
    if importlib.util.find_spec(name) is None:
        missing = pytest.fail if os.environ.get("PULLBACK_REQUIRE_LIBRARIES") == "1" else pytest.skip
        missing(f"{name} is not installed")


class Conv(nn.Module):
    """A small convolutional VAE of images 1x12x12, in training mode as people leave them."""

    def __init__(self, latent: int = 5) -> None:
        super().__init__()
        self.latent = latent
        self.down = nn.Sequential(
            nn.Conv2d(1, 6, 4, 2, 1),
            nn.BatchNorm2d(6),
            nn.SiLU(),
            nn.Conv2d(6, 8, 4, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
        )
        self.head = nn.Linear(72, 2 * latent)
        self.up = nn.Sequential(nn.Linear(latent, 72), nn.Tanh(), nn.Linear(72, 144), nn.Sigmoid())

    def encode(self, x):
        mu, logvar = self.head(self.down(x)).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z):
        return self.up(z).view(-1, 1, 12, 12)


@pytest.fixture
def conv() -> Conv:
    torch.manual_seed(0)
    return Conv()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 1, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def program() -> Path:
    """The command line."""
    named = os.environ.get("PULLBACK_PROGRAM")
    found = [Path(named)] if named else [ROOT / "target" / profile / "pullback" for profile in ("debug", "release")]
    found = [p for p in found if p.exists()]
    if not found:
        pytest.fail("no program `pullback`: cargo build makes it (or PULLBACK_PROGRAM names it)")
    return max(found, key=lambda p: p.stat().st_mtime)


@pytest.fixture
def command(program, tmp_path):
    """Runs the command line in a folder of the test's own."""

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [program, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="session")
def burgess():
    """The module that loads the published VAEs."""
    if not (SHARED / "models/burgess.py").exists():
        pytest.skip("no ../shared/models here")
    pytest.importorskip("safetensors")
    sys.path.insert(0, str(SHARED / "models"))
    import burgess

    return burgess
