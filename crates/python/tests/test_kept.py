"""What the package leaves as it finds it."""

import copy

import pytest
import torch

import pullback as pb


def _state(vae):
    return (
        {n: m.training for n, m in vae.named_modules()},
        {n: (p.requires_grad, p.dtype, p.device, p.clone()) for n, p in vae.named_parameters()},
        {n: b.clone() for n, b in vae.named_buffers()},
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cudnn.allow_tf32,
        torch.get_num_threads(),
    )


def _same(a, b):
    assert a[0] == b[0] and a[3:] == b[3:]
    for one, other in ((a[1], b[1]), (a[2], b[2])):
        assert one.keys() == other.keys()
    for n in a[1]:
        assert a[1][n][:3] == b[1][n][:3] and torch.equal(a[1][n][3], b[1][n][3])
    for n in a[2]:
        assert torch.equal(a[2][n], b[2][n])


@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_models_are_left_as_found(conv, images, precision):
    conv.down[0].eval()
    conv.head.weight.requires_grad_(False)
    seen = []
    conv.head.register_forward_hook(lambda *a: seen.append(1))
    before = _state(conv)
    with torch.no_grad():
        pb.score(conv, images, precision=precision, quiet=True)
    with torch.inference_mode():
        pb.attack(conv, images, attacks=["pgd"], steps=2, eps=[0.1], precision=precision, quiet=True)
    _same(before, _state(conv))
    # Its hooks run, and gradients of its own are not touched.
    assert seen and all(p.grad is None for p in conv.parameters())


def _precisions():
    said = [pb._keep._precision(*setting) for setting in pb._keep._PRECISIONS]
    for older in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            said.append(older())
        except RuntimeError:
            said.append("raises")
    return said


@pytest.fixture
def as_before():
    undo = pb._keep._exact()
    for put, values in undo:
        put(*values)
    yield
    for put, values in undo:
        put(*values)


PRECISIONS = {
    "generic tf32": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "generic bf16": lambda: setattr(torch.backends, "fp32_precision", "bf16"),
    "cuda": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
    "cuda products": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "cuda convolutions": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "oneDNN products": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "oneDNN convolutions": lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "no TF32": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_products_are_exact_and_their_settings_left(conv, images, name, as_before):
    wide = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(4608, 64))
    model = pb.Model(wide, encode=wide, decode=lambda z: z[:, :1].repeat(1, 144).view(-1, 1, 12, 12))
    expected = pb.score(model, images, metric="mean", quiet=True).spectrum
    PRECISIONS[name]()
    before = _precisions()
    seen = []
    conv.head.register_forward_hook(lambda *a: seen.append(_precisions()))
    assert torch.allclose(pb.score(model, images, metric="mean", quiet=True).spectrum, expected, rtol=1e-5, atol=1e-9)
    pb.score(conv, images, metric="mean", quiet=True)
    assert _precisions() == before
    # What followed another setting still does.
    torch.backends.fp32_precision = "none"
    alone = _precisions()
    PRECISIONS[name]()
    torch.backends.fp32_precision = "none"
    assert alone == _precisions()
    assert seen and all(said[:9] == ["ieee"] * 9 and said[9:] == ["highest", False] for said in seen)


def test_also_after_an_exception(conv, images):
    before = _state(conv)
    with pytest.raises(ValueError, match="RuntimeError: mat1 and mat2"):
        pb.score(conv, torch.rand(4, 1, 20, 20), quiet=True)
    conv.head.register_forward_hook(lambda *a: 1 / 0)
    with pytest.raises(ValueError, match="ZeroDivisionError: division by zero") as raised:
        pb.score(conv, images, quiet=True)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    _same(before, _state(conv))


def test_what_fails_half_way_is_put_back(conv, images):
    class Stuck(torch.nn.Identity):
        @property
        def training(self):
            return True

        @training.setter
        def training(self, on):
            if not on:
                raise RuntimeError("always in training mode")

    conv.up.append(Stuck())
    before = _state(conv)
    with pytest.raises(RuntimeError, match="always in training mode"):
        pb.score(conv, images, quiet=True)
    _same(before, _state(conv))
    assert not pb._keep._held


def test_a_model_that_inference_mode_made(conv, images):
    with torch.inference_mode():
        vae = type(conv)()
    before = _state(vae)
    with pytest.raises(ValueError, match="Inference tensors cannot be saved"):
        pb.score(vae, images, quiet=True)
    _same(before, _state(vae))


def test_parts_that_two_models_share(conv):
    whole, part = pb._keep.kept(conv), pb._keep.kept(conv.down)
    whole.__enter__()
    part.__enter__()
    whole.__exit__(None, None, None)
    assert conv.head.training and conv.head.weight.requires_grad
    assert not conv.down[0].training and not conv.down[0].weight.requires_grad
    part.__exit__(None, None, None)
    assert all(m.training for m in conv.modules()) and all(p.requires_grad for p in conv.parameters())


@pytest.mark.parametrize("on", [True, False])
def test_profiling_of_torchscript_is_as_before(conv, images, tmp_path, on):
    pb.export(conv, tmp_path / "vae.pt", images[:2])
    before = torch._C._jit_set_profiling_mode(on)
    try:
        pb.score(tmp_path / "vae.pt", images, quiet=True)
    finally:
        after = torch._C._jit_set_profiling_mode(before)
    assert after is on


def test_training_goes_on(conv, images):
    twin = copy.deepcopy(conv)

    def step(vae):
        torch.manual_seed(7)
        vae.zero_grad()
        vae.decode(vae.encode(images)[0]).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in vae.parameters()])

    expected = step(twin)
    pb.score(conv, images, quiet=True)
    assert torch.equal(step(conv), expected)


def test_weights_are_asked_as_they_are_now(conv, images):
    model = pb.Model(conv)
    before = pb.score(model, images, metric="mean", precision="f64", quiet=True)
    with torch.no_grad():
        conv.head.weight.mul_(2)
    after = pb.score(model, images, metric="mean", precision="f64", quiet=True)
    assert torch.allclose(after.spectrum, 4 * before.spectrum, rtol=1e-9)
    assert before.attributes["model_sha256"] != after.attributes["model_sha256"]
