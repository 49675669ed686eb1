"""Networks that the command line trained, as modules of PyTorch."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from torch import Tensor, nn

from . import _native

_ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
}


class Network(nn.Module):
    """A network that ``pullback train`` wrote, in evaluation mode. Its parameters have the names that the folder's file has."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        #: The key ``model`` of the folder's config.yaml.
        self.spec = spec
        image = spec["image"]
        self._image = (image["channels"], image["height"], image["width"])
        self.latent: int = spec["latent"]
        self._flat = spec["kind"] == "mlp"
        encoder, decoder, features = (_mlp if self._flat else _conv)(spec, self._image)
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        self.mean, self.log_var = nn.Linear(features, self.latent), nn.Linear(features, self.latent)
        likelihood = spec["likelihood"]
        self._sigmoid = likelihood["kind"] == "bernoulli" or likelihood.get("mean") == "sigmoid"
        if likelihood.get("scale") == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(1))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] in [0, 1] to mu and ln sigma^2, [B, L] each."""
        h = self.encoder(x.flatten(1) if self._flat else x)
        return self.mean(h), self.log_var(h)

    def decode(self, z: Tensor) -> Tensor:
        """Codes [B, L] to the mean g(z), [B, C, H, W]."""
        x = self.decoder(z).reshape(-1, *self._image)
        return x.sigmoid() if self._sigmoid else x

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction g(mu(x)), [B, C, H, W]."""
        return self.decode(self.encode(x)[0])


def load(folder: str | os.PathLike[str]) -> Network:
    """Opens a folder that ``pullback train`` wrote, as a module in float32 on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: Where there is no such folder.
        ValueError: Where it is no run folder, or its weights do not fit its configuration.

    >>> import pullback as pb
    >>> vae = pb.load("runs/strokes")  # of `pullback train`
    >>> x, labels = pb.images("strokes", limit=4)
    >>> mu, logvar = vae.encode(x)
    >>> mu.shape == logvar.shape == (4, vae.latent), vae(x).shape == x.shape
    (True, True)
    """
    if not os.path.exists(folder):
        raise FileNotFoundError(f"{os.fspath(folder)}: expected a run folder, found nothing there")
    spec, tensors = _native.run_folder(os.fspath(folder))
    network = Network(json.loads(spec))
    network.load_state_dict(tensors)
    return network.eval()


def _after(spec: dict[str, Any], norm: type[nn.Module], width: int) -> list[nn.Module]:
    """What follows a layer: its normalisation, where there is one, and its activation."""
    normal = [norm(width)] if spec["normalization"] == "batch" else []
    return [*normal, _ACTIVATIONS[spec["activation"]]()]


def _mlp(spec: dict[str, Any], image: tuple[int, int, int]) -> tuple[list[nn.Module], list[nn.Module], int]:
    def chain(width: int, hidden: list[int]) -> tuple[list[nn.Module], int]:
        layers: list[nn.Module] = []
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), *_after(spec, nn.BatchNorm1d, next_width)]
            width = next_width
        return layers, width

    dim = image[0] * image[1] * image[2]
    encoder, features = chain(dim, spec["hidden"])
    decoder, width = chain(spec["latent"], spec["hidden"][::-1])
    return encoder, [*decoder, nn.Linear(width, dim)], features


def _conv(spec: dict[str, Any], image: tuple[int, int, int]) -> tuple[list[nn.Module], list[nn.Module], int]:
    sizes = [image]
    encoder: list[nn.Module] = []
    for channels in spec["channels"]:
        last = sizes[-1]
        encoder += [nn.Conv2d(last[0], channels, 4, 2, 1), *_after(spec, nn.BatchNorm2d, channels)]
        sizes.append((channels, last[1] // 2, last[2] // 2))
    last = sizes[-1]
    features = last[0] * last[1] * last[2]
    decoder: list[nn.Module] = []
    encoder.append(nn.Flatten())
    width = spec["latent"]
    if hidden := spec["hidden"]:
        encoder += [nn.Linear(features, hidden), *_after(spec, nn.BatchNorm1d, hidden)]
        decoder += [nn.Linear(width, hidden), *_after(spec, nn.BatchNorm1d, hidden)]
        width = hidden
    decoder += [nn.Linear(width, features), nn.Unflatten(1, last), *_after(spec, nn.BatchNorm2d, last[0])]
    for place in reversed(range(len(sizes) - 1)):
        wide, narrow = sizes[place], sizes[place + 1]
        extra = (wide[1] - 2 * narrow[1], wide[2] - 2 * narrow[2])
        decoder.append(nn.ConvTranspose2d(narrow[0], wide[0], 4, 2, 1, extra))
        if place > 0:
            decoder += _after(spec, nn.BatchNorm2d, wide[0])
    return encoder, decoder, hidden or features
