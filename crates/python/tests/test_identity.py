"""Unfinished results go on only with the model and the judge that began them."""

import threading

import pytest
import torch
from torch import nn

import pullback as pb
from pullback._judge import Judge


class Plain:
    """No module, but it has one."""

    def __init__(self, net):
        self.net, self.power = net, 1.0

    def encode(self, x):
        return self.net.encode(x)

    def decode(self, z):
        return self.net.decode(z)


def _opaque(net):
    class Opaque:
        """Has nothing by which its weights could be found."""

        def encode(self, x):
            return net.encode(x)

        def decode(self, z):
            return net.decode(z)

    return Opaque()


def _functions(net, scale=1.0):
    return pb.Model(encode=lambda x: net.encode(x * scale), decode=lambda z: torch.sigmoid(net.decode(z)))


@pytest.fixture
def lone():
    """Images, more than the first 64 that are stored together, and a hook that stops at the last."""
    x = torch.rand(80, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 0.5
    x[-1] = 1

    def stop(_module, inputs, _output):
        if inputs[0].detach().flatten(1).mean(1).max() > 0.9:
            raise RuntimeError("enough")

    return x, stop


def _change(net):
    with torch.no_grad():
        net.head.weight.mul_(2)


@pytest.mark.parametrize("make", [Plain, _functions, lambda net: pb.Model(net, encode=lambda x: net.encode(x))])
def test_weights_are_found(conv, make):
    def sha256(net):
        made = make(net)
        return (made if isinstance(made, pb.Model) else pb.Model(made)).sha256

    before = sha256(conv)
    assert sha256(conv) == before
    _change(conv)
    assert sha256(conv) != before


def test_what_cannot_be_read_is_never_the_same(conv):
    held = _opaque(conv)
    assert pb.Model(held).sha256 != pb.Model(held).sha256
    lock = threading.Lock()
    for keep in (lambda x: (lock, conv.encode(x))[1], lambda x, lock=lock: conv.encode(x)):
        assert pb.Model(conv, encode=keep).sha256 != pb.Model(conv, encode=keep).sha256
    # One object is one model in reports, until a file of it is left unfinished.
    model = pb.Model(held)
    assert model.sha256 == model.sha256


def test_functions_are_told_apart(conv):
    assert _functions(conv).sha256 == _functions(conv).sha256
    assert _functions(conv).sha256 != _functions(conv, 0.5).sha256
    head = pb.Model(conv, encode=lambda x: conv.head(conv.down(x)))
    assert head.sha256 != pb.Model(conv, encode=lambda x: conv.down(conv.head(x))).sha256


def test_judges(conv):
    def ink(scale):
        return Judge(lambda x: scale * x.flatten(1).mean(1)).name

    assert ink(1) == ink(1) != ink(2)
    lock = threading.Lock()
    assert ink(lock) != ink(lock)
    judge = nn.Linear(5, 1)
    before = Judge(judge.forward).name
    assert Judge(judge.forward).name == before
    with torch.no_grad():
        judge.bias.add_(1)
    assert Judge(judge.forward).name != before


def test_rows_of_two_models_are_not_mixed(conv, lone, tmp_path, capsys):
    conv.eval()
    x, stop = lone
    options = {"metric": "mean", "batch": 16, "out": tmp_path / "scores.h5"}
    other = {**options, "out": tmp_path / "other.h5"}
    told, untold = Plain(conv), pb.Model(_opaque(conv))
    hook = conv.down.register_forward_hook(stop)
    for model, told_options in ((told, options), (untold, other)):
        with pytest.raises(ValueError, match="enough"):
            pb.score(model, x, quiet=True, **told_options)
    hook.remove()
    # One object, but nothing tells whether it was trained in between.
    with pytest.raises(FileExistsError, match="model_sha256 differs"):
        pb.score(untold, x, quiet=True, **other)
    pb.score(untold, x, quiet=True, force=True, **other)
    weight = conv.head.weight.detach().clone()
    _change(conv)
    with pytest.raises(FileExistsError, match="model_sha256 differs"):
        pb.score(told, x, quiet=True, **options)
    with torch.no_grad():
        conv.head.weight.copy_(weight)
    found = pb.score(told, x, **options)
    assert "goes on after" in capsys.readouterr().err
    assert torch.allclose(found.spectrum, pb.score(conv, x, metric="mean", quiet=True).spectrum, rtol=1e-5)


def test_one_object_is_one_model_of_a_page(conv, images):
    model = pb.Model(_opaque(conv))
    conv.eval()
    sums = {
        pb.score(model, images, metric=metric, quiet=True).attributes["model_sha256"] for metric in ("mean", "output")
    }
    assert len(sums) == 1
