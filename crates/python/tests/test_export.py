"""Models that leave Python, and those that come in."""

import numpy as np
import pytest
import torch
from torch.utils import checkpoint

import pullback as pb
from reference import spectra_agree


def test_a_file_gives_what_the_model_gives(conv, images, tmp_path):
    pb.export(conv, tmp_path / "vae.pt", images[:2])
    assert conv.training
    file = torch.jit.load(tmp_path / "vae.pt")
    conv.eval()
    for count in (1, 2, 7):
        mu, logvar = file.encode(images[:count])
        assert torch.allclose(mu, conv.encode(images[:count])[0], atol=1e-6)
        assert torch.allclose(logvar, conv.encode(images[:count])[1], atol=1e-6)
        assert torch.allclose(file.decode(mu), conv.decode(mu), atol=1e-6)
    with pytest.raises(FileExistsError, match="force=True"):
        pb.export(conv, tmp_path / "vae.pt", images[:2])
    pb.export(conv, tmp_path / "vae.pt", images[:2], force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["vae.pt"]


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_a_series_model_is_read_as_it_was_given(tmp_path, kind, precision):
    class Series(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.head, self.back = (
                kind(3, 8, batch_first=True),
                torch.nn.Linear(8, 4),
                torch.nn.Linear(2, 15),
            )

        def encode(self, x):
            mu, logvar = self.head(self.rows(x)[0][:, -1]).chunk(2, 1)
            return mu, logvar

        def decode(self, z):
            return self.back(z).view(-1, 5, 3)

    torch.manual_seed(3)
    model, x = Series(), torch.rand(4, 5, 3)
    pb.export(model, tmp_path / "vae.pt", x[:2])
    for metric in ("stochastic", "output"):
        live = pb.score(model, x, metric=metric, precision=precision, quiet=True)
        file = pb.score(str(tmp_path / "vae.pt"), x, metric=metric, precision=precision, quiet=True)
        assert live.spectrum.shape == file.spectrum.shape
        spectra_agree(live.spectrum, file.spectrum, 1e-5 if precision == "f32" else 1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
def test_a_file_is_written_in_any_mode(conv, images, tmp_path, mode):
    with mode():
        pb.export(conv, tmp_path / "vae.pt", images[:2])
    with torch.inference_mode():
        made = images[:2].clone()
        pb.export(conv, tmp_path / "vae.pt", made, force=True)
    assert conv.training and conv.head.weight.requires_grad


def test_a_models_own_range_and_scale_are_in_the_file(conv, images, tmp_path):
    conv.eval()
    model = pb.Model(
        conv, encode=lambda x: (conv.encode(x)[0], conv.encode(x)[1].exp()), posterior="var", input_range=(-1, 1)
    )
    pb.export(model, tmp_path / "vae.pt", images[:2])
    mu, logvar = torch.jit.load(tmp_path / "vae.pt").encode(images)
    expected = conv.encode(2 * images - 1)
    assert torch.allclose(mu, expected[0], atol=1e-5) and torch.allclose(logvar, expected[1], atol=1e-5)
    ours = pb.score(model, images, metric="output", quiet=True)
    theirs = pb.score(str(tmp_path / "vae.pt"), images, metric="output", quiet=True)
    assert torch.allclose(ours.spectrum, theirs.spectrum, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("encode", "line"),
    [
        (lambda c, x: c.encode(x.view(2, 1, 12, 12)), r"expected a file that takes 1 images"),
        (lambda c, x: c.encode(x if float(x.sum()) > 150 else -x), "gives what the model gives"),
    ],
)
def test_a_file_that_would_be_wrong_is_not_written(conv, images, tmp_path, encode, line):
    conv.eval()
    with pytest.raises(ValueError, match=line):
        pb.export(pb.Model(conv, encode=lambda x: encode(conv, x)), tmp_path / "vae.pt", images[:2])
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16, "functions", "range"])
def test_a_file_takes_both_precisions(conv, images, tmp_path, command, kind):
    conv.eval()
    match kind:
        case "functions":
            model = pb.Model(encode=conv.encode, decode=conv.decode, posterior="logvar")
        case "range":
            model = pb.Model(conv, input_range=(-1, 1))
        case _:
            model = pb.Model(conv.to(kind))
    pb.export(model, tmp_path / "vae.pt", images[:2])
    file = torch.jit.load(tmp_path / "vae.pt")
    # Weights as constants, a device or a dtype in the code would stay as they are.
    assert len(list(file.parameters())) == len(list(conv.parameters()))
    graph = f"{file.encode.inlined_graph} {file.decode.inlined_graph}"
    assert not any(part in graph for part in ("Device = ", "aten::to("))
    np.save(tmp_path / "images.npy", images.numpy())
    ours = pb.Model(conv, input_range=model.input_range, posterior="logvar")
    for precision, tolerance in (("f32", 1e-5), ("f64", 1e-12)):
        command(
            "score",
            "-m",
            "vae.pt",
            "-d",
            "images.npy",
            "-o",
            f"{precision}.h5",
            "--precision",
            precision,
            "--full-scale",
            "1",
        )
        expected = pb.score(ours, images, precision=precision, quiet=True).spectrum
        spectra_agree(pb.open(tmp_path / f"{precision}.h5").spectrum, expected, tolerance)


class Attention(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
        self.mix = (
            torch.nn.TransformerEncoder(layer, 1) if layers else torch.nn.MultiheadAttention(12, 2, batch_first=True)
        )
        self.head, self.back = torch.nn.Linear(144, 6), torch.nn.Linear(3, 144)

    def encode(self, x):
        h = x.flatten(1, 2)
        h = self.mix(h) if isinstance(self.mix, torch.nn.TransformerEncoder) else self.mix(h, h, h)[0]
        mu, logvar = self.head(h.flatten(1)).chunk(2, 1)
        return mu, logvar

    def decode(self, z):
        return self.back(z).sigmoid().view(-1, 1, 12, 12)


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_attention(images, tmp_path, layers, fast):
    torch.manual_seed(0)
    vae = Attention(layers)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        pb.export(vae, tmp_path / "vae.pt", images[:2])
        assert torch.backends.mha.get_fastpath_enabled() is fast
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    spectra_agree(
        pb.score(tmp_path / "vae.pt", images, quiet=True).spectrum, pb.score(vae, images, quiet=True).spectrum, 1e-5
    )


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient


@pytest.mark.parametrize(
    "through", [lambda f, x: f(Twice.apply(x)), lambda f, x: checkpoint.checkpoint(f, x, use_reentrant=False)]
)
def test_python_inside_a_model_is_no_part_of_a_file(conv, images, tmp_path, through):
    model = pb.Model(conv, encode=lambda x: through(conv.encode, x), posterior="logvar")
    pb.score(model, images, quiet=True)
    with pytest.raises(
        ValueError, match="Could not export Python function call .*no place for torch.autograd.Function"
    ) as raised:
        pb.export(model, tmp_path / "vae.pt", images[:2])
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_models_that_write_into_their_argument(conv, images, tmp_path):
    model = pb.Model(
        conv.eval(),
        encode=lambda x: conv.encode(x.mul_(2)),
        decode=lambda z: conv.decode(z.sub_(1)),
        posterior="logvar",
    )
    pb.export(model, tmp_path / "vae.pt", images[:2])
    for metric in ("stochastic", "output"):
        ours, theirs = (pb.score(m, images, metric=metric, quiet=True).spectrum for m in (model, tmp_path / "vae.pt"))
        spectra_agree(theirs, ours, 1e-5)


CONFIGS = [
    "{kind: mlp, hidden: [16, 8], latent: 3, activation: gelu}",
    "{kind: mlp, hidden: [16], latent: 3, normalization: batch, likelihood: {kind: gaussian, scale: learned}}",
    "{kind: conv, channels: [4, 8], hidden: 16, latent: 3, activation: silu, normalization: batch}",
    "{kind: conv, channels: [4], hidden: 0, latent: 2, likelihood: {kind: gaussian, mean: identity}}",
]


@pytest.mark.parametrize("spec", CONFIGS)
def test_run_folders_are_modules(tmp_path, command, spec):
    (tmp_path / "config.yaml").write_text(
        f"data: {{source: 'strokes:n=64,size=14', limit: 64}}\nmodel: {spec}\ntrain: {{epochs: 1, batch: 16}}\n"
    )
    command("train", "-c", "config.yaml", "-o", "run")
    vae = pb.load(tmp_path / "run")
    assert isinstance(vae, torch.nn.Module) and not vae.training
    x = torch.rand(6, 1, 14, 14)
    ours = pb.score(vae, x, metric="output-stochastic", top=1, quiet=True)
    theirs = pb.score(tmp_path / "run", x, metric="output-stochastic", top=1, quiet=True)
    assert torch.allclose(ours.spectrum, theirs.spectrum, rtol=1e-4, atol=1e-6 * theirs.spectrum.max().item())
    with pytest.raises(ValueError, match="a run folder with model.safetensors"):
        pb.load(tmp_path)
