"""On each device that there is, a model is asked where it lies."""

import copy
import os

import pytest
import torch

import pullback as pb
from reference import METRICS, eigenvalues, spectra_agree


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """With PULLBACK_REQUIRE_CUDA=1 the absence of a CUDA device is a failure."""
    if request.param == "cuda" and not torch.cuda.is_available():
        missing = pytest.fail if os.environ.get("PULLBACK_REQUIRE_CUDA") == "1" else pytest.skip
        missing("there is no CUDA device")
    return request.param


def test_on_each_device(conv, images, device, tmp_path):
    exact = copy.deepcopy(conv).double().eval()
    vae = conv.to(device)
    for metric in METRICS:
        found = pb.score(vae, images, metric=metric, top=1, quiet=True)
        spectra_agree(found.spectrum, eigenvalues(exact.encode, exact.decode, images, metric), 2e-6)
    # Images may lie elsewhere than the model, and what is found lies on the CPU.
    again = pb.score(vae, images.to(device), metric="mean", quiet=True)
    assert again.spectrum.device.type == "cpu" and all(p.device.type == device for p in vae.parameters())
    pb.export(vae, tmp_path / "vae.pt", images[:2])
    filed = pb.score(tmp_path / "vae.pt", images, metric="mean", device=device, quiet=True)
    spectra_agree(filed.spectrum, again.spectrum, 1e-5)


def test_attacks_on_each_device(conv, images, device):
    exact = copy.deepcopy(conv).double().eval()
    found = pb.attack(conv.to(device), images, attacks=["spectral", "pgd", "race"], steps=10, eps=[0.5], quiet=True)
    for name, attacked in found.images.items():
        assert (attacked[0] - images).flatten(1).norm(dim=1).max() <= 0.5 * (1 + 1e-5)
        with torch.no_grad():
            before, after = (exact.encode(x.double())[0] for x in (images, attacked[0]))
        moved = (after - before).norm(dim=1)
        assert torch.allclose(found.measure(name, "latent_l2")[0], moved, rtol=1e-4, atol=1e-6), name
