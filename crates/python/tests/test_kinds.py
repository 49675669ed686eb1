"""Models that are wrapped, compiled, of other types or without what is needed: they work, or one line says what to do."""

import pytest
import torch

import pullback as pb
from conftest import Conv, library
from reference import eigenvalues, spectra_agree


def _score(vae, images, **options):
    return pb.score(vae, images, metric="stochastic", quiet=True, **options)


def test_a_compiled_model(conv, images):
    compiled = pb.Model(torch.compile(conv, backend="eager"))
    assert torch.equal(_score(compiled, images).spectrum, _score(conv, images).spectrum)
    assert "uncompiled" in str(compiled)


def test_a_compiled_function(conv, images):
    conv.eval()
    expected = _score(conv, images)
    model = pb.Model(conv, encode=torch.compile(conv.encode, backend="aot_eager"))
    assert torch.equal(_score(model, images).spectrum, expected.spectrum) and "uncompiled" in str(model)


def test_a_compiled_module_inside(conv, images):
    conv.eval()
    expected = _score(conv, images)
    # vmap does not take its backward pass: rows are taken one by one.
    conv.down.compile(backend="aot_eager")
    assert torch.allclose(_score(conv, images).spectrum, expected.spectrum, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rule", [True, False])
def test_functions_of_ones_own(conv, images, rule):
    class Twice(torch.autograd.Function):
        generate_vmap_rule = rule

        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    conv.eval()
    ours = pb.Model(conv, encode=lambda x: (Twice.apply(conv.encode(x)[0]), conv.encode(x)[1]))
    plain = pb.Model(conv, encode=lambda x: (2 * conv.encode(x)[0], conv.encode(x)[1]))
    assert torch.allclose(_score(ours, images).spectrum, _score(plain, images).spectrum, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision(conv, images, kind):
    half = conv.to(kind)
    model = pb.Model(half)
    found = _score(model, images)
    assert "a copy in float32 is asked" in str(model)
    assert half.head.weight.dtype == kind
    assert torch.allclose(found.spectrum, _score(conv.float(), images).spectrum)


class Waves(torch.nn.Module):
    """A layer in the Fourier domain, whose weights and shift are complex."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(12, 7, dtype=torch.complex64))
        self.register_buffer("shift", torch.randn(12, 7, dtype=torch.complex64))
        self.head, self.back = torch.nn.Linear(144, 4), torch.nn.Linear(2, 144)

    def encode(self, x):
        waves = torch.fft.rfft2(x) * self.weight + self.shift
        mu, logvar = self.head(torch.fft.irfft2(waves, s=(12, 12)).flatten(1).tanh()).chunk(2, 1)
        return mu, logvar

    def decode(self, z):
        return self.back(z).view(-1, 1, 12, 12)


def test_complex_numbers_stay_complex(images):
    torch.manual_seed(5)
    vae = Waves()
    exact = Waves()
    exact.load_state_dict(vae.state_dict())
    exact._apply(lambda t: t.to(torch.complex128 if t.is_complex() else torch.float64))
    expected = eigenvalues(exact.encode, exact.decode, images, "stochastic")
    spectra_agree(_score(vae, images, precision="f64").spectrum, expected, 1e-9)
    spectra_agree(_score(vae, images).spectrum, expected, 1e-5)
    spectra_agree(_score(exact, images).spectrum, expected, 1e-5)
    assert vae.weight.dtype == torch.complex64 and exact.shift.dtype == torch.complex128


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_in_another_precision(images):
    class Scripted(Conv):
        @torch.jit.export
        def encode(self, x: torch.Tensor):
            mu, logvar = self.head(self.down(x)).chunk(2, dim=1)
            return mu, logvar

        @torch.jit.export
        def decode(self, z: torch.Tensor):
            return self.up(z).view(-1, 1, 12, 12)

    conv = Scripted().eval()
    script = torch.jit.script(conv)
    for given in (script, torch.jit.script(conv.half())):
        model = pb.Model(given, posterior="logvar")
        tolerance = {"rtol": 1e-9} if given is script else {"rtol": 1e-5, "atol": 1e-9}
        found = _score(model, images, precision="f64").spectrum
        assert torch.allclose(found, _score(conv, images, precision="f64").spectrum, **tolerance)
        assert next(given.parameters()).requires_grad


def test_functions_of_another_type_are_refused(conv, images):
    half = conv.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"expected a model in float32.*found bfloat16 \(model.float\(\)\)"):
        _score(pb.Model(half, encode=half.encode), images)


def test_wrapped_for_several_devices(conv, images):
    assert torch.equal(_score(torch.nn.DataParallel(conv), images).spectrum, _score(conv, images).spectrum)


def test_a_lightning_module(conv, images):
    library("lightning")
    import lightning

    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.vae = conv

    class Whole(Lit):
        def encode(self, x):
            return self.vae.encode(x)

        def decode(self, z):
            return self.vae.decode(z)

    with pytest.raises(ValueError, match=r"found none in Lit \(pb.Model\(model.vae\)"):
        _score(Lit(), images)
    assert torch.equal(_score(Whole(), images).spectrum, _score(conv, images).spectrum)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: pb.Model(), "expected a model, or encode= and decode="),
        (lambda: pb.Model(torch.nn.Linear), "found the class Linear"),
        (
            lambda: pb.Model(torch.nn.Linear(2, 2)),
            r"expected methods encode\(x\) and decode\(z\), found none in Linear",
        ),
        (
            lambda: pb.Model(torch.nn.Linear(2, 2), encode=lambda x: x, decode=lambda z: z, posterior="sigma"),
            "posterior: expected one of logvar, logstd, std, var, found 'sigma'",
        ),
        (
            lambda: pb.Model(torch.nn.Linear(2, 2), encode=lambda x: x, decode=lambda z: z, input_range=(1, 1)),
            "input_range: expected two different numbers",
        ),
    ],
)
def test_what_is_no_model(make, line):
    with pytest.raises(ValueError, match=line):
        make()


def test_noise_and_neighbours_are_refused(conv, images):
    conv.eval()
    drawn = pb.Model(conv, encode=lambda x: (conv.encode(x)[0] + torch.randn(len(x), 5), conv.encode(x)[1]))
    with pytest.raises(ValueError, match="the model's encoder: expected the same result"):
        _score(drawn, images)
    mixed = pb.Model(conv, encode=lambda x: conv.encode(x - x.mean(0)))
    with pytest.raises(ValueError, match="expected samples that do not depend on each other"):
        _score(mixed, images)


def test_a_model_elsewhere(conv, images):
    with pytest.raises(ValueError, match="on the CPU or a CUDA device, found it on meta"):
        _score(conv.to("meta"), images)


def test_another_device_than_the_models(conv, images):
    with pytest.raises(ValueError, match=r"device: expected cpu, where the model lies, found cuda:0"):
        _score(conv, images, device="cuda:0")
    _score(conv, images, device="cpu")
