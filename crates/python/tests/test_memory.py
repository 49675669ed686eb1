"""Models and judges that write where others read: into what they are given, or into what they gave before."""

import copy

import pytest
import torch

import pullback as pb
from reference import eigenvalues, spectra_agree


def _in_place(conv):
    """The model that writes, and the same without writing."""
    writes = pb.Model(
        conv,
        encode=lambda x: conv.encode(x.sub_(0.5).div_(0.25)),
        decode=lambda z: conv.decode(z.mul_(2)),
        posterior="logvar",
    )
    return writes, pb.Model(
        conv, encode=lambda x: conv.encode((x - 0.5) / 0.25), decode=lambda z: conv.decode(2 * z), posterior="logvar"
    )


@pytest.mark.parametrize("metric", ["stochastic", "output", "decoder"])
def test_models_that_write_into_what_they_are_given(conv, images, metric):
    writes, plain = _in_place(conv.eval())
    given = images.clone()
    exact = copy.deepcopy(conv).double()
    expected = eigenvalues(lambda x: exact.encode((x - 0.5) / 0.25), lambda z: exact.decode(2 * z), images, metric)
    for model in (writes, plain):
        spectra_agree(pb.score(model, given, metric=metric, quiet=True).spectrum, expected, 1e-5)
    assert torch.equal(given, images)


def test_their_attacks(conv, images):
    writes, plain = _in_place(conv.eval())
    options = {"attacks": ["random", "pgd", "square"], "eps": [0.5, 1.0], "steps": 5, "queries": 20, "quiet": True}
    ours, theirs = (pb.attack(model, images, **options) for model in (writes, plain))
    for name in ours.names:
        assert torch.allclose(ours.images[name], theirs.images[name], atol=1e-5)
        # A damage is a difference of nearly equal numbers.
        for measure in ("latent_l2", "recon_shift", "input_l2"):
            assert torch.allclose(ours.measure(name, measure), theirs.measure(name, measure), rtol=1e-3, atol=1e-6)
        size = (ours.images[name] - images).flatten(2).norm(dim=2)
        assert torch.allclose(size.double(), ours.measure(name, "input_l2").double(), atol=1e-5)


def test_writing_that_no_version_counts(conv, images):
    conv.eval()

    def encode(x):
        x.data.mul_(0.5)
        return conv.encode(x)

    found = pb.score(pb.Model(conv, encode=encode, posterior="logvar"), images, metric="mean", quiet=True)
    plain = pb.Model(conv, encode=lambda x: conv.encode(x + (0.5 * x - x).detach()), posterior="logvar")
    assert torch.allclose(found.spectrum, pb.score(plain, images, metric="mean", quiet=True).spectrum, rtol=1e-5)


def test_a_model_that_writes_later_is_refused(conv, images):
    conv.eval()
    calls = []

    def encode(x):
        calls.append(1)
        return conv.encode(x if len(calls) < 5 or x.requires_grad else x.clamp_(0.2, 0.8))

    with pytest.raises(ValueError, match="never writes into its argument.*found a later call that did") as raised:
        pb.attack(pb.Model(conv, encode=encode, posterior="logvar"), images, attacks=["random"], eps=[0.5], quiet=True)
    assert "\n" not in str(raised.value)


def test_answers_that_lie_where_the_last_one_lay(conv, images):
    conv.eval()
    work = torch.zeros(1000, 1, 12, 12)

    def decode(z):
        answer = conv.decode(z)
        return answer if torch.is_grad_enabled() else torch.mul(answer, 1, out=work[: len(z)])

    options = {"attacks": ["random"], "eps": [0.5], "quiet": True}
    ours = pb.attack(pb.Model(conv, decode=decode), images, **options)
    theirs = pb.attack(conv, images, **options)
    assert (theirs.measure("random", "recon_shift") > 0).all()
    for measure in ("recon_shift", "recon_mse"):
        assert torch.equal(ours.measure("random", measure), theirs.measure("random", measure))


def test_others_are_given_what_there_is(conv, images):
    conv.eval()
    seen = []

    def encode(x):
        seen.append(x)
        return conv.encode(x)

    reader = pb.Model(conv, encode=encode).reader(False)
    reader.encode(images)
    reader.encode(images)
    # Beforehand copies of one row.
    assert [x is images for x in seen] == [False, False, True, True]


def test_layers_of_a_first_question(conv, images):
    reader = pb.Model(conv.eval()).reader(False)
    reader.watch(["up"])
    assert len(reader.features(images)) == 1


def test_judges_that_write(conv, images):
    conv.eval()
    options = {"attacks": ["pgd", "random"], "eps": [0.5], "steps": 3, "quiet": True}
    ours, theirs = (
        pb.attack(conv, images, judge=judge, **options)
        for judge in (lambda x: x.sub_(0.4).square().mean((1, 2, 3)), lambda x: (x - 0.4).square().mean((1, 2, 3)))
    )
    for name in ours.names:
        assert torch.equal(ours.damage[name], theirs.damage[name])
        assert torch.equal(ours.measure(name, "recon_mse"), theirs.measure(name, "recon_mse"))
