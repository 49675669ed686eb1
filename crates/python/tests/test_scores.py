"""Spectra and scores: exact, and those of the command line."""

import copy

import pytest
import torch

import pullback as pb
from reference import METRICS, eigenvalues, spectra_agree


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_spectra_are_those_of_torch_func(conv, images, metric, precision):
    exact = copy.deepcopy(conv).double().eval()
    expected = eigenvalues(exact.encode, exact.decode, images, metric)
    found = pb.score(conv, images, metric=metric, precision=precision, quiet=True)
    spectra_agree(found.spectrum, expected, 2e-6 if precision == "f32" else 1e-12)


def test_directions_are_eigenvectors(conv, images):
    scores = pb.score(conv, images, metric="mean", top=2, precision="f64", quiet=True)
    assert scores.directions.shape == (8, 2, 1, 12, 12)
    exact = copy.deepcopy(conv).double().eval()
    for one, values, directions in zip(images.double(), scores.spectrum, scores.directions.double(), strict=True):
        jacobian = torch.func.jacrev(lambda x: exact.encode(x[None])[0][0])(one).flatten(1).detach()
        for value, direction in zip(values, directions.flatten(1), strict=False):
            assert ((jacobian.T @ (jacobian @ direction)) - value * direction).abs().max() < 1e-5 * values[0]


@pytest.mark.parametrize("metric", METRICS)
def test_numbers_are_the_command_lines(conv, images, command, tmp_path, metric):
    pb.export(conv, tmp_path / "vae.pt", images[:2])
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "x.npy", images.numpy())
    command("score", "-m", "vae.pt", "-d", "x.npy", "-o", "theirs.h5", "--metric", metric, "--top", "2")
    theirs, ours = pb.open(tmp_path / "theirs.h5"), pb.score(conv, images, metric=metric, top=2, quiet=True)
    assert sorted(theirs) == sorted(ours)
    for path in theirs:
        if path.startswith(("/spectrum", "/scores")):
            scale = theirs[path].abs().max().clamp(min=1)
            assert torch.allclose(ours[path] / scale, theirs[path] / scale, atol=1e-6, rtol=1e-6, equal_nan=True), path


def test_attacks_are_the_command_lines(conv, images, command, tmp_path):
    pb.export(conv, tmp_path / "vae.pt", images[:2])
    __import__("numpy").save(tmp_path / "x.npy", images.numpy())
    command(
        "attack",
        "-m",
        "vae.pt",
        "-d",
        "x.npy",
        "-o",
        "theirs.h5",
        "--attack",
        "spectral,random,pgd",
        "--eps",
        "0.5,1",
        "--steps",
        "10",
        "--save-images",
        "--threads",
        "1",
    )
    theirs = pb.open(tmp_path / "theirs.h5")
    ours = pb.attack(conv, images, attacks=["spectral", "random", "pgd"], eps=[0.5, 1], steps=10, quiet=True)
    assert sorted(theirs) == sorted(ours) and theirs.names == ["pgd", "random", "spectral"]
    for path in theirs:
        if path.startswith("/attack"):
            # PSNR is in decibels of a small number.
            gap = 1e-4 if path.endswith("psnr") else 2e-6
            assert torch.allclose(ours[path].double(), theirs[path].double(), atol=gap, rtol=gap), path


def test_attacks_do_what_they_say(conv, images):
    found = pb.attack(conv, images, attacks=["spectral", "pgd"], norm="linf", eps=[8 / 255], quiet=True)
    exact = copy.deepcopy(conv).double().eval()
    for name, attacked in found.images.items():
        assert attacked.shape == (1, 8, 1, 12, 12)
        assert attacked.min() >= 0 and attacked.max() <= 1
        assert (attacked[0] - images).abs().max() <= 8 / 255 + 1e-6
        with torch.no_grad():
            before, after = exact.encode(images.double())[0], exact.encode(attacked[0].double())[0]
            image = exact.decode(after)
        moved = (after - before).norm(dim=1)
        assert torch.allclose(found.measure(name, "latent_l2")[0], moved, rtol=1e-5, atol=1e-7)
        error = (image - images.double()).flatten(1).square().mean(1)
        assert torch.allclose(found.measure(name, "recon_mse")[0], error, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (3, 8), (1, 4, 5), (2, 3, 4, 5)])
def test_samples_of_any_axes(shape):
    torch.manual_seed(0)
    width = int(torch.Size(shape).numel())

    class Dense(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.back = torch.nn.Linear(width, 4), torch.nn.Linear(2, width)

        def encode(self, x):
            assert x.shape[1:] == shape
            mu, logvar = self.into(x.flatten(1)).tanh().chunk(2, 1)
            return mu, logvar

        def decode(self, z):
            return self.back(z).view(-1, *shape)

    x, vae = torch.rand(6, *shape), Dense()
    scores = pb.score(vae, x, top=1, metric="output", quiet=True)
    exact = copy.deepcopy(vae).double()
    spectra_agree(scores.spectrum, eigenvalues(exact.encode, exact.decode, x, "output"))
    assert scores.directions.shape == (6, 1, *shape)
    attacked = pb.attack(vae, x, attacks=["spectral"], eps=[0.1], quiet=True)
    assert attacked.images["spectral"].shape == (1, 6, *shape)
