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


def _equal(ours, theirs, path, within=1e-6):
    """To a share of the largest number of a column."""
    ours, theirs = ours.double(), theirs.double()
    known = theirs.isfinite()
    # What is NaN or infinite is so in both.
    assert ours.shape == theirs.shape and torch.equal(ours[~known].isnan(), theirs[~known].isnan()), path
    if known.any():
        assert (ours - theirs)[known].abs().max() <= within * theirs[known].abs().max(), path


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
            _equal(ours[path], theirs[path], path)


# Each with settings that keep it short.
ATTACKS = [
    (["spectral", "random"], {}),
    (["pgd", "apgd"], {"steps": 10}),
    (["race"], {"budget": 30}),
    (["suite"], {}),
]


# In double the same numbers; in single each step carries the rounding of those before it on, by other products on other processors.
@pytest.mark.parametrize(("precision", "within"), [("f64", 1e-7), ("f32", 1e-5)])
@pytest.mark.parametrize(("attacks", "options"), ATTACKS, ids=lambda value: "-".join(value))
def test_attacks_are_the_command_lines(conv, images, command, tmp_path, attacks, options, precision, within):
    pb.export(conv, tmp_path / "vae.pt", images[:2])
    pytest.importorskip("numpy").save(tmp_path / "x.npy", images.numpy())
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    shared = ["-m", "vae.pt", "-d", "x.npy", "-o", "theirs.h5", "--eps", "0.5,1", "--save-images", "--threads", "1"]
    shared += ["--precision", precision]
    command("attack", *shared, "--attack", ",".join(attacks), *flags)
    theirs = pb.open(tmp_path / "theirs.h5")
    ours = pb.attack(conv, images, attacks=attacks, eps=[0.5, 1], precision=precision, quiet=True, **options)
    assert sorted(theirs) == sorted(ours) and set(attacks) <= set(theirs.names)
    for path in theirs:
        if path.startswith(("/attack", "/damage")):
            _equal(ours[path], theirs[path], path, within)


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
