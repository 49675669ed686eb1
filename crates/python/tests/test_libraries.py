"""Models of the libraries that people use, held to torch.func in float64 on 8 images, by every metric; attacks recomputed; the file that
`export` writes of them asked the same."""

import copy
import warnings

import pytest
import torch

import pullback as pb
from conftest import library
from reference import METRICS, jacobians, spectra_agree, spectra_of

# Small ones: a spatial code of an image twice as wide has four times the rows.
IMAGES = {"grey": (1, 28, 28), "colour": (3, 16, 16), "latents": (3, 16, 16), "volume": (1, 8, 8, 8)}


def _pythae(kind, net):
    from pythae.models import VAE, BetaTCVAE, BetaTCVAEConfig, VAEConfig
    from pythae.models.nn.benchmarks.mnist import Decoder_Conv_AE_MNIST, Encoder_Conv_VAE_MNIST

    made, config = (VAE, VAEConfig) if kind == "VAE" else (BetaTCVAE, BetaTCVAEConfig)
    config = config(input_dim=(1, 28, 28), latent_dim=8)
    if net == "mlp":
        return made(config)
    return made(config, encoder=Encoder_Conv_VAE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config))


def _diffusers(kind):
    from diffusers import AutoencoderKL, AutoencoderTiny

    if kind == "KL":
        return AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=[32, 64],
            latent_channels=4,
            norm_num_groups=8,
            sample_size=16,
        )
    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16),
        decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=2,
    )


def _monai(kind):
    from monai.networks.nets import AutoencoderKL, VarAutoEncoder

    if kind == "KL":
        return AutoencoderKL(
            2,
            1,
            1,
            num_res_blocks=(1, 1),
            channels=(8, 8),
            attention_levels=(False, False),
            latent_channels=2,
            norm_num_groups=4,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
    if kind == "KL 3-D":
        return AutoencoderKL(
            3,
            1,
            1,
            num_res_blocks=(1,),
            channels=(4,),
            attention_levels=(False,),
            latent_channels=1,
            norm_num_groups=2,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
    return VarAutoEncoder(2, (1, 28, 28), 1, 4, channels=(4, 8), strides=(2, 2))


# Library, model, kind of images, and of the copy in float64: mu and ln sigma^2 or None [B, L], and the image.
def _spatial(encode, decode):
    """Codes that are maps, flattened."""
    shape = []

    def flat(x):
        mu, logvar = encode(x)
        shape[:] = mu.shape[1:]
        return mu.flatten(1), None if logvar is None else logvar.flatten(1)

    return flat, lambda z: decode(z.reshape(-1, *shape))


def _of_pythae(m):
    def encode(x):
        out = m.encoder(x)
        return out.embedding, out.log_covariance

    return encode, lambda z: m.decoder(z).reconstruction


def _of_kl(m):
    def encode(x):
        dist = m.encode(2 * x - 1).latent_dist
        return dist.mean, dist.logvar

    return _spatial(encode, lambda z: (m.decode(z).sample + 1) / 2)


def _of_tiny(m):
    return _spatial(lambda x: (m.encode(2 * x - 1).latents, None), lambda z: (m.decode(z).sample + 1) / 2)


def _of_monai(m):
    def encode(x):
        mu, sigma = m.encode(x)
        return mu, 2 * sigma.log()

    return _spatial(encode, m.decode)


CASES = {
    "pythae VAE mlp": ("pythae", lambda: _pythae("VAE", "mlp"), "grey", _of_pythae),
    "pythae VAE conv": ("pythae", lambda: _pythae("VAE", "conv"), "grey", _of_pythae),
    "pythae BetaTCVAE mlp": ("pythae", lambda: _pythae("BetaTCVAE", "mlp"), "grey", _of_pythae),
    "pythae BetaTCVAE conv": ("pythae", lambda: _pythae("BetaTCVAE", "conv"), "grey", _of_pythae),
    "diffusers AutoencoderKL": ("diffusers", lambda: _diffusers("KL"), "latents", _of_kl),
    "diffusers AutoencoderTiny": ("diffusers", lambda: _diffusers("Tiny"), "colour", _of_tiny),
    "monai AutoencoderKL": ("monai", lambda: _monai("KL"), "grey", _of_monai),
    "monai AutoencoderKL 3-D": ("monai", lambda: _monai("KL 3-D"), "volume", _of_monai),
    "monai VarAutoEncoder": ("monai", lambda: _monai("Var"), "grey", lambda m: (m.encode_forward, m.decode_forward)),
}
WORDS = {"pythae": "pythae's model.encoder(x)", "diffusers": "diffusers' encode(x)", "monai": "MONAI's encode"}


# Of lambda_1, as docs/bring-your-model.md says.
LIBRARIES, PUBLISHED = 1e-6, 5e-5


def _held(model, exact, x, metrics, tolerance):
    encode, decode = exact
    parts = jacobians(encode, decode, x)
    for metric in metrics:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pb.score(model, x, metric=metric, quiet=True)
        spectra_agree(found.spectrum, spectra_of(parts, metric), tolerance)
    attacked = pb.attack(model, x, attacks=["spectral", "pgd"], steps=5, eps=[0.5], metric="mean", quiet=True)
    for name, images in attacked.images.items():
        assert (images[0] - x).flatten(1).norm(dim=1).max() < 0.5 * (1 + 1e-5)
        with torch.no_grad():
            before, after = encode(x.double())[0], encode(images[0].double())[0]
            image = decode(after)
        moved = (after - before).norm(dim=1)
        assert torch.allclose(attacked.measure(name, "latent_l2")[0], moved, rtol=1e-3, atol=1e-6), name
        error = (image - x.double()).flatten(1).square().mean(1)
        assert torch.allclose(attacked.measure(name, "recon_mse")[0], error, rtol=1e-4, atol=1e-9), name


@pytest.mark.parametrize("name", CASES)
def test_a_library(name):
    of, make, images, exact = CASES[name]
    library(of)
    torch.manual_seed(0)
    vae = make()
    state = {k: v.clone() for k, v in vae.state_dict().items()}
    model = pb.Model(vae)
    x = torch.rand(8, *IMAGES[images])
    metrics = ("mean", "output", "decoder") if "Tiny" in name else METRICS
    _held(model, exact(copy.deepcopy(vae).double().eval()), x, metrics, LIBRARIES)
    assert WORDS[of] in str(model)
    assert vae.training and all(torch.equal(v, state[k]) for k, v in vae.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_the_file_of_a_library(name, tmp_path):
    of, make, images, _ = CASES[name]
    library(of)
    torch.manual_seed(0)
    vae, x = make(), torch.rand(2, *IMAGES[images])
    pb.export(vae, tmp_path / "vae.pt", x)
    # Of encoder, variance and decoder.
    metric = "output" if "Tiny" in name else "output-stochastic"
    ours, theirs = (pb.score(m, x, metric=metric, top=1, quiet=True) for m in (vae, tmp_path / "vae.pt"))
    # Each is that far from exact.
    spectra_agree(theirs.spectrum, ours.spectrum, 2 * LIBRARIES)


def test_a_layer_of_a_library():
    library("diffusers")
    torch.manual_seed(0)
    vae, x, layer = _diffusers("KL"), torch.rand(2, *IMAGES["latents"]), "encoder.down_blocks.0"
    found = pb.attack(vae, x, attacks=["pgd", "random"], steps=5, eps=[0.5], layers=[layer], quiet=True)
    exact, seen = copy.deepcopy(vae).double().eval(), []
    exact.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        for images in (x, found.images["pgd"][0], found.images["random"][0]):
            exact.encode(2 * images.double() - 1)
    for attacked, name in zip(seen[1:], ("pgd", "random"), strict=True):
        change = (attacked - seen[0]).flatten(1).square().mean(1)
        assert torch.allclose(found.damage[name][0], change, rtol=1e-4), name
    assert (found.damage["pgd"] > found.damage["random"]).all()
    assert vae.training and not vae.get_submodule(layer)._forward_hooks


@pytest.mark.parametrize("name", ["VAE", "betaH", "btcvae"])
def test_a_published_model(burgess, name):
    vae = burgess.load(burgess.Path(burgess.__file__).with_name(f"mnist_{name}.safetensors"))
    x = burgess.mnist32(burgess.Path(burgess.__file__).parents[1] / "data/mnist")[:8].clone()
    exact = copy.deepcopy(vae).double()
    _held(pb.Model(vae), (exact.encode, exact.decode), x, METRICS, PUBLISHED)
