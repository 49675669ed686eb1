"""Where models have their encoder and their decoder, and what is asked where they do not say it."""

import pytest
import torch
from torch import nn

import pullback as pb


def _body(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(144, width), nn.Tanh())


def _back(width):
    return nn.Sequential(nn.Linear(width, 144), nn.Sigmoid(), nn.Unflatten(1, (1, 12, 12)))


class Features(nn.Module):
    """The code is made beside the encoder, as tutorials have it."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = _body(8), nn.Sequential(nn.Tanh(), _back(8))
        self.fc_mu, self.fc_logvar, self.decoder_input = nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(3, 8)


class Quantized(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.codebook, self.decoder = _body(4), nn.Embedding(8, 4), _back(4)


@pytest.mark.parametrize(("make", "parts"), [(Features, "fc_mu, fc_logvar, decoder_input"), (Quantized, "codebook")])
def test_what_neither_encoder_nor_decoder_holds_is_asked_for(images, make, parts):
    vae = make()
    with pytest.raises(ValueError, match=f"that hold all parameters, found {parts} in neither") as raised:
        pb.score(vae, images, metric="mean", quiet=True)
    assert "\n" not in str(raised.value)
    # What the caller says goes before that.
    model = pb.Model(vae, encode=vae.encoder)
    assert len(pb.score(model, images, metric="output", quiet=True).index) == 8


def test_parts_that_share_parameters_are_whole(images):
    vae = nn.Module()
    vae.encoder, vae.decoder = _body(3), _back(3)
    vae.again = vae.decoder[0]
    assert pb.score(vae, images, metric="output", quiet=True).spectrum.shape == (8, 3)


def test_an_encoder_whose_tensor_the_decoder_does_not_take(images):
    vae = nn.Module()
    vae.encoder, vae.decoder = _body(6), _back(3)
    for metric in ("mean", "output"):
        with pytest.raises(
            ValueError, match=r"a code that decoder takes, found one tensor \[1, 6\], .*chunk"
        ) as raised:
            pb.score(vae, images, metric=metric, quiet=True)
        assert "\n" not in str(raised.value)
    model = pb.Model(vae, encode=lambda x: vae.encoder(x).chunk(2, 1))
    assert pb.score(model, images, quiet=True).spectrum.shape == (8, 6)


@pytest.mark.parametrize("library", ["diffusers", "monai", "pythae"])
def test_only_models_of_a_library_are_read_as_its_own(conv, images, library):
    # What people take from a library to save and to load their own models.
    mixin = type("ModelMixin", (nn.Module,), {"__module__": f"{library}.models.modeling_utils"})

    class AutoencoderKL(mixin):
        def __init__(self):
            super().__init__()
            self.vae = self.encoder = self.decoder = conv

        def encode(self, x):
            mu, logvar = self.vae.encode(x)
            return mu, logvar

        def decode(self, z):
            return self.vae.decode(z)

    model = pb.Model(AutoencoderKL())
    found = pb.score(model, images, quiet=True)
    assert "pixels: 0 to 1" in str(
        model
    ) and "encode: AutoencoderKL.encode(x), outputs 0 and 1, read as mu and logvar" in str(model)
    assert torch.equal(found.spectrum, pb.score(conv, images, quiet=True).spectrum)

    theirs = type(
        "AutoencoderKL",
        (mixin,),
        {"__module__": f"{library}.autoencoders", "encode": lambda m, x: x, "decode": lambda m, z: z},
    )
    heirs = type("Heir", (theirs,), {"__module__": "mine"})
    if library == "diffusers":
        assert all("pixels: -1 to 1" in str(pb.Model(kind())) for kind in (theirs, heirs))
