"""Goals that look inside a model: its layers by name, and a judge that is a callable."""

import copy
import threading

import pytest
import torch

import pullback as pb


def outputs_of(vae, layers, x):
    """What the layers give, by hooks of the test's own."""
    seen = []
    hooks = [vae.get_submodule(name).register_forward_hook(lambda m, i, o: seen.append(o)) for name in layers]
    with torch.no_grad():
        vae.decode(vae.encode(x)[0])
    for hook in hooks:
        hook.remove()
    return seen


def test_layers_are_what_hooks_see(conv, images):
    layers = ["down.0", "up"]
    found = pb.attack(conv, images, attacks=["pgd", "random"], eps=[0.5], layers=layers, quiet=True)
    exact = copy.deepcopy(conv).double().eval()
    for name, attacked in found.images.items():
        before = outputs_of(exact, layers, images.double())
        after = outputs_of(exact, layers, attacked[0].double())
        change = sum((a - b).flatten(1).square().mean(1) for a, b in zip(after, before, strict=True))
        assert torch.allclose(found.damage[name][0], change, rtol=1e-4), name
    assert (found.damage["pgd"] > found.damage["random"]).all()
    assert conv.training and not conv.down[0]._forward_hooks


def test_passes_of_other_threads_are_not_watched(conv, images):
    others = []

    def encode(x):
        # Of another size, and of the size that is watched.
        thread = threading.Thread(target=lambda: others.extend(conv.up(torch.zeros(n, 5)) for n in (3, len(x))))
        thread.start()
        thread.join()
        return conv.encode(x)

    reader = pb.Model(conv.eval(), encode=encode).reader(False)
    reader.watch(["up"])
    (seen,) = reader.features(images)
    assert torch.equal(seen, outputs_of(conv, ["up"], images)[0])
    # The calls before these are those before a first question.
    assert [len(other) for other in others[-2:]] == [3, 8]


def test_layers_that_are_none_are_named(conv, images):
    with pytest.raises(ValueError, match="layers: expected down, down.0, .*, found nowhere"):
        pb.attack(conv, images, attacks=["pgd"], eps=[0.5], layers=["nowhere"], quiet=True)
    plain = pb.Model(encode=conv.eval().encode, decode=conv.decode)
    with pytest.raises(ValueError, match="whose layers have names"):
        pb.attack(plain, images, attacks=["pgd"], eps=[0.5], layers=["down"], quiet=True)


def test_a_judge_is_any_callable(conv, images, tmp_path):
    exact = copy.deepcopy(conv).double().eval()

    def ink(x):
        return x.flatten(1)[:, :30].mean(1)

    found = pb.attack(conv, images, attacks=["pgd", "random"], eps=[0.5], judge=ink, quiet=True)
    with torch.no_grad():
        said = [ink(exact.decode(exact.encode(x.double())[0])) for x in (images, found.images["pgd"][0])]
    # A small difference of values of about 1/2 in single precision.
    assert torch.allclose(found.damage["pgd"][0], said[1] - said[0], rtol=1e-6, atol=2e-7)
    assert (found.damage["pgd"] > 0).all() and (found.damage["pgd"] > found.damage["random"]).all()

    classifier = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Dropout(0.5), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    moved = pb.attack(conv, images, attacks=["pgd"], eps=[0.5], judge=classifier, judge_reads="latent", quiet=True)
    twin = copy.deepcopy(classifier).double().eval()
    with torch.no_grad():
        codes = [exact.encode(x.double())[0] for x in (images, moved.images["pgd"][0])]
        assert torch.allclose(moved.damage["pgd"][0], (twin(codes[1]) - twin(codes[0])).norm(dim=1), rtol=1e-4)
    assert classifier.training and classifier[0].weight.requires_grad

    # The same by a TorchScript file, as the command line takes it.
    torch.jit.script(copy.deepcopy(classifier).eval()).save(str(tmp_path / "judge.pt"))
    filed = pb.attack(
        conv, images, attacks=["pgd"], eps=[0.5], judge=tmp_path / "judge.pt", judge_reads="latent", quiet=True
    )
    assert torch.allclose(filed.damage["pgd"], moved.damage["pgd"], rtol=1e-4)


def test_a_judge_that_judges_nothing_is_named(conv, images):
    for judge, words in [
        (lambda x: x.flatten(1).argmax(1), "gradient"),
        (lambda x: x.mean(), "for 1 sample|for 8 samples|for 2 samples"),
        (lambda x: "good", "expected a tensor"),
        (lambda x: 1 / 0, "division by zero"),
    ]:
        with pytest.raises(ValueError, match=words):
            pb.attack(conv, images, attacks=["pgd"], eps=[0.5], judge=judge, quiet=True)
    with pytest.raises(ValueError, match="judge"):
        pb.attack(conv, images, judge=3, quiet=True)
    with pytest.raises(ValueError, match="goal"):
        pb.attack(conv, images, judge=lambda x: x.mean((1, 2, 3)), goal="latent", quiet=True)


def test_the_suite_from_python(conv, images):
    found = pb.attack(conv, images[:4], attacks="suite", eps=[0.5], quiet=True)
    parts = [name for name in found.names if name.startswith("suite-")]
    assert len(parts) == 6
    worst = torch.stack([found.damage[part] for part in parts]).amax(0)
    assert torch.equal(found.damage["suite"], worst)
    assert (found["/passes/suite/forward"] <= 1000).all()
