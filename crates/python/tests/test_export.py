"""Models that leave Python, and those that come in."""

import pytest
import torch

import pullback as pb


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
