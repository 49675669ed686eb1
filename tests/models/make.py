#!/usr/bin/env python
"""Makes the files beside it: PyTorch twins of our networks with what PyTorch computes of them, and TorchScript files,
good and bad. Run it with a Python that has torch 2.11 and numpy; the files are committed, so tests need neither.

    mlp/, conv/    config.yaml + model.safetensors, written by hand here, and expected.safetensors (all f64):
                   x, noise, z in; mean, log_var, x_hat (evaluation mode) and nll, kl, loss (beta = 0.7) and the
                   gradient of that loss in training mode, grad.<name>, out
    *.pt           TorchScript
"""
import json
import pathlib
import re
import struct
import tempfile
import zipfile
from typing import List

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
BETA = 0.7
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


def save(path, tensors):
    """The safetensors format, from its description."""
    header, blobs, at = {}, [], 0
    for name, t in tensors.items():
        raw = t.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


class Twin(nn.Module):
    def __init__(self, encoder, features, latent, decoder, shape, flat, learned):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.mean, self.log_var = nn.Linear(features, latent), nn.Linear(features, latent)
        self.shape, self.flat = shape, flat
        if learned:
            self.log_sigma = nn.Parameter(torch.tensor([-0.4]))

    def encode(self, x):
        h = self.encoder(x.flatten(1) if self.flat else x)
        return self.mean(h), self.log_var(h)

    def logits(self, z):
        return self.decoder(z).reshape(-1, *self.shape)


def twin(name, model, config, likelihood, batch):
    torch.manual_seed(3)
    for p in model.parameters():  # away from the special values of an initialisation
        nn.init.uniform_(p, -0.5, 0.5)
    for b in model.modules():
        if isinstance(b, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(b.running_mean, -0.2, 0.2)
            nn.init.uniform_(b.running_var, 0.5, 1.5)
            b.num_batches_tracked.fill_(7)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(config)
    save(folder / "model.safetensors", model.state_dict())
    model.double().eval()
    latent = model.mean.out_features
    x = torch.rand(batch, *model.shape, dtype=torch.float64)
    noise = torch.randn(batch, latent, dtype=torch.float64)
    z = torch.randn(batch, latent, dtype=torch.float64)
    mean, log_var = model.encode(x)
    out = {"x": x, "noise": noise, "z": z, "mean": mean, "log_var": log_var}
    distribution, out["x_hat"] = likelihood(model, model.logits(z))
    out["nll"] = -distribution.log_prob(x).flatten(1).sum(1)
    model.train()
    mean, log_var = model.encode(x)
    posterior = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    distribution, _ = likelihood(model, model.logits(mean + (0.5 * log_var).exp() * noise))
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    loss = (-distribution.log_prob(x).flatten(1).sum(1)).mean() + BETA * kl.mean()
    loss.backward()
    out |= {"kl": kl, "loss": loss.reshape(1)}
    out |= {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    save(folder / "expected.safetensors", out)


def bernoulli(_, logits):
    return torch.distributions.Bernoulli(logits=logits, validate_args=False), torch.sigmoid(logits)


def gaussian(model, logits):
    return torch.distributions.Normal(logits, model.log_sigma.exp()), logits


def twins():
    s = nn.Sequential
    mlp = Twin(s(nn.Linear(30, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh()), 5, 3,
               s(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 30)), (1, 6, 5), True, False)
    twin("mlp", mlp, """\
model:
  kind: mlp
  image: {channels: 1, height: 6, width: 5}
  latent: 3
  hidden: [7, 5]
  activation: tanh
  likelihood: {kind: bernoulli}
train: {lr: 0.1}
""", bernoulli, 4)
    # 14 -> 7 -> 3: an odd size, which the decoder makes up for with output padding.
    conv = Twin(s(nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(),
                  nn.Conv2d(4, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.LeakyReLU(),
                  nn.Flatten(), nn.Linear(54, 8), nn.BatchNorm1d(8), nn.LeakyReLU()), 8, 2,
                s(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.LeakyReLU(),
                  nn.Linear(8, 54), nn.Unflatten(1, (6, 3, 3)), nn.BatchNorm2d(6), nn.LeakyReLU(),
                  nn.ConvTranspose2d(6, 4, 4, 2, 1, output_padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(),
                  nn.ConvTranspose2d(4, 3, 4, 2, 1)), (3, 14, 14), False, True)
    twin("conv", conv, """\
model:
  kind: conv
  image: {channels: 3, height: 14, width: 14}
  latent: 2
  channels: [4, 6]
  hidden: 8
  activation: leaky_relu
  normalization: batch
  likelihood: {kind: gaussian, scale: learned, sigma: 0.67032, mean: identity}
""", gaussian, 5)


class Base(nn.Module):
    """1x2x3 images, two latents; what is exported is what a subclass makes of encode and decode."""

    def __init__(self):
        super().__init__()
        self.e, self.d = nn.Linear(6, 2), nn.Linear(2, 6)


def script(name, module):
    torch.manual_seed(1)
    for p in module.parameters():
        if not p.isnan().any():
            nn.init.uniform_(p, -0.5, 0.5)
    packed(name, torch.jit.script(module.eval()))  # a traced one stays as it is


def packed(name, scripted):
    with tempfile.NamedTemporaryFile(suffix=".pt") as raw:
        torch.jit.save(scripted, raw.name)
        # Without the debug records, which name the folders of the machine that ran this.
        with zipfile.ZipFile(raw.name) as old, zipfile.ZipFile(HERE / f"{name}.pt", "w") as new:
            for entry in old.namelist():
                if not entry.endswith(".debug_pkl"):
                    new.writestr(zipfile.ZipInfo(f"{pathlib.Path(name).name}/{entry.split('/', 1)[1]}"), old.read(entry))


class Flat(Base):
    """A good one: its decoder gives flat images, it holds an integer buffer used as an index, and a plain attribute."""

    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.tensor([5, 3, 1, 0, 2, 4]))
        self.scale = torch.tensor([0.5, 2.0])

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h), h * self.scale

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z))


class NoEncode(Base):
    @torch.jit.export
    def decode(self, z):
        return self.d(z)


class NoDecode(Base):
    @torch.jit.export
    def encode(self, x):
        return self.e(x.flatten(1)), self.e(x.flatten(1))


class OneTensor(NoEncode):
    @torch.jit.export
    def encode(self, x):
        return self.e(x.flatten(1))


class Three(NoEncode):
    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1))
        return h, h, h


class Mixed(NoEncode):
    @torch.jit.export
    def encode(self, x):
        return self.e(x.flatten(1)), 3


class Number(NoEncode):
    @torch.jit.export
    def encode(self, x):
        return float(x.sum())


class Disagree(NoEncode):
    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1))
        return h, h[:, :1]


class NotANumber(NoDecode):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.d.bias, float("nan"))

    @torch.jit.export
    def decode(self, z):
        return self.d(z)


class Wide(nn.Module):
    """A small convolutional autoencoder of the latent-diffusion kind: 1x64x64 images, a code of 4x32x32 = 4096 means and as
    many log-variances, 8192 rows of the factor. Group norm keeps its Jacobian from being a mere convolution."""

    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.d1, self.d2 = nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    @torch.jit.export
    def encode(self, x):
        h = self.e2(torch.nn.functional.silu(self.norm(self.e1(x))))
        return h[:, :4].flatten(1), h[:, 4:].flatten(1) - 4.0

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d2(torch.nn.functional.silu(self.d1(z.reshape(-1, 4, 32, 32)))))


class Standardised(nn.Module):
    """Standardises each image: one of a single value has no code (0 / 0). 1x12x12."""

    def __init__(self):
        super().__init__()
        self.e, self.d = nn.Linear(144, 8), nn.Linear(4, 144)

    @torch.jit.export
    def encode(self, x):
        f = x.flatten(1)
        h = self.e((f - f.mean(1, keepdim=True)) / f.std(1, keepdim=True))
        return h[:, :4], h[:, 4:] - 2.0

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)).reshape(-1, 1, 12, 12)


class Once(nn.Module):
    """Samples 2100 points of a 1x64x64 image along a grid: an operation whose backward pass has no derivative."""

    @torch.jit.export
    def encode(self, x):
        at = torch.linspace(-0.9, 0.9, 2100, dtype=x.dtype)
        grid = torch.stack([at, (at * 37.0).sin() * 0.9], 1).reshape(1, 2100, 1, 2).expand(x.shape[0], 2100, 1, 2)
        mean = torch.nn.functional.grid_sample(x, grid, align_corners=False).flatten(1)
        return mean, torch.zeros_like(mean)

    @torch.jit.export
    def decode(self, z):
        return z.mean(1).reshape(-1, 1, 1, 1).expand(-1, 1, 64, 64)


class Dropout(Standardised):
    """Dropout in the decoder that was left on. 1x12x12."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1))
        return h[:, :4], h[:, 4:] - 2.0

    @torch.jit.export
    def decode(self, z):
        h = torch.nn.functional.dropout(self.d(z), 0.5, training=True)
        return torch.sigmoid(h).reshape(-1, 1, 12, 12)


class Ranged(Flat):
    """Flat for pixels in [-1, 1]."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(((x + 1) / 2).flatten(1)[:, self.order])
        return torch.tanh(h), h * self.scale

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)) * 2 - 1


class Std(Flat):
    """Flat with sigma for logvar, as MONAI has it."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h), (h * self.scale / 2).exp()


class LogStd(Flat):
    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h), h * self.scale / 2


class Var(Flat):
    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h), (h * self.scale).exp()


class Spatial(Flat):
    """Flat with a code of [B, 2, 1, 1], which its decoder insists on."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h)[:, :, None, None], (h * self.scale)[:, :, None, None]

    @torch.jit.export
    def decode(self, z):
        assert z.dim() == 4
        return torch.sigmoid(self.d(z.squeeze(3).squeeze(2)))


class Four(Flat):
    """Flat that gives a loss before and features after."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return h.sum(), torch.tanh(h), h * self.scale, h


class Lone(Flat):
    """Flat without a variance: an autoencoder."""

    @torch.jit.export
    def encode(self, x):
        return torch.tanh(self.e(x.flatten(1)[:, self.order]))


class Vector(Flat):
    """Flat for vectors [B, 6] alone."""

    @torch.jit.export
    def encode(self, x):
        assert x.dim() == 2
        h = self.e(x[:, self.order])
        return torch.tanh(h), h * self.scale


class Series(Flat):
    """Flat for series [B, 2, 3] alone."""

    @torch.jit.export
    def encode(self, x):
        assert x.dim() == 3
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h), h * self.scale

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)).reshape(-1, 2, 3)


class Points(nn.Module):
    """Sets of points [B, 2, 3], whatever their number; [B, 1, 2, 3] means something else to it."""

    def __init__(self):
        super().__init__()
        self.e, self.d = nn.Linear(3, 2), nn.Linear(2, 6)

    @torch.jit.export
    def encode(self, x):
        h = self.e(x).amax(1)
        return torch.tanh(h), h

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)).reshape(-1, 2, 3)


class OnlyPoints(Points):
    @torch.jit.export
    def encode(self, x):
        assert x.dim() == 3
        h = self.e(x).amax(1)
        return torch.tanh(h), h


class FlatPoints(Points):
    """Its decoder does not tell which it takes."""

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z.reshape(-1, 2)[: z.size(0)]))


class Recurrent(nn.Module):
    """A recurrent layer, which as traced code takes anything."""

    def __init__(self):
        super().__init__()
        self.e, self.d = nn.LSTM(3, 4, batch_first=True), nn.Linear(2, 6)

    def encode(self, x):
        return self.e(x)[1][0][-1].chunk(2, 1)

    def decode(self, z):
        return torch.sigmoid(self.d(z)).reshape(-1, 2, 3)


class Volume(Flat):
    """Flat for volumes [B, 1, 1, 2, 3] alone."""

    @torch.jit.export
    def encode(self, x):
        assert x.dim() == 5
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h), h * self.scale

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)).reshape(-1, 1, 1, 2, 3)


class Rounded(Flat):
    """Flat behind a rounding to 8 bits, which masks its gradient."""

    @torch.jit.export
    def encode(self, x):
        h = self.e((x * 255).round().flatten(1)[:, self.order] / 255)
        return torch.tanh(h), h * self.scale


class Logits(Flat):
    """Flat whose decoder gives logits."""

    @torch.jit.export
    def decode(self, z):
        return self.d(z) * 20


class Remembers(Flat):
    """Flat that was traced for two images."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.reshape(2, 6)[:, self.order])
        return torch.tanh(h), h * self.scale


class Halved(Flat):
    """Flat that was exported in half precision."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order])
        return torch.tanh(h).half(), (h * self.scale).half()


class OnCuda(Flat):
    """Flat that was traced on a GPU."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.flatten(1)[:, self.order]) + torch.zeros([2], device="cuda")
        return torch.tanh(h), h * self.scale


class Single(Flat):
    """Flat that was traced for one image."""

    @torch.jit.export
    def encode(self, x):
        h = self.e(x.reshape(1, 6)[:, self.order])
        return torch.tanh(h), h * self.scale


class Traced(Base):
    """A convolution that was traced, and remembers that TF32 was allowed."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(1, 2, (2, 3))

    def encode(self, x):
        h = self.c(x).flatten(1)
        return h, h

    def decode(self, z):
        return self.d(z).view(-1, 1, 2, 3)


traced_product = torch.jit.trace(lambda x, w: nn.functional.conv2d(x, w), (torch.rand(1, 1, 2, 3), torch.rand(2, 1, 2, 3)))


class TracedDeep(Base):
    """Scripted code that calls a traced part and, in a branch, a traced function: convolutions that allow TF32, out of sight."""

    def __init__(self):
        super().__init__()
        self.inner = torch.jit.trace(nn.Conv2d(1, 2, (2, 3)).eval(), torch.rand(1, 1, 2, 3))

    @torch.jit.export
    def encode(self, x):
        h = self.inner(x).flatten(1)
        if x.size(0) > 1:
            h = h + traced_product(x, self.inner.weight).flatten(1)
        return h, h

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)).view(-1, 1, 2, 3)


class Maps(nn.Module):
    """Convolutions whose maps may lie in another order than libtorch's own: [N, 1, 8, 8] to maps [N, 8, 4, 4]."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 1, 1)
        self.act = nn.ReLU(inplace=True)
        self.mu, self.d = nn.Linear(128, 2), nn.Linear(2, 64)
        self.calls = 0

    def maps(self, x):
        return self.b(self.act(self.a(x)))

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z)).view(-1, 1, 8, 8)


class Viewed(Maps):
    """Views of maps, in both ways to say it."""

    @torch.jit.export
    def encode(self, x):
        h = self.act(self.maps(x))
        flat = h.view(h.size(0), -1)
        mu = self.mu(flat + h.view_as(flat))
        return mu, mu


class Written(Maps):
    """Writes to a view's part, and reads it from the maps."""

    @torch.jit.export
    def encode(self, x):
        h = self.maps(x)
        h.view(h.size(0), -1)[:, :40].mul_(-3.0)
        mu = self.mu(h.flatten(1))
        return mu, mu


class Strided(Maps):
    """Asks how its maps lie."""

    @torch.jit.export
    def encode(self, x):
        h = self.maps(x)
        if h.is_contiguous():
            h = h * 2.0
        mu = self.mu(h.flatten(1))
        return mu, mu


class Counting(Maps):
    """Remembers how often it was asked."""

    @torch.jit.export
    def encode(self, x):
        self.calls = self.calls + 1
        mu = self.mu(self.maps(x).flatten(1))
        return mu, mu


class Late(Maps):
    """Writes to maps of which it has taken views."""

    @torch.jit.export
    def encode(self, x):
        h = self.maps(x)
        view, flat = h.view(h.size(0), -1), h.flatten(1)
        h += 0.5
        self.act(h)
        mu = self.mu(view + flat)
        return mu, mu


class Lent(Maps):
    """A layer writes to a view that it is given."""

    @torch.jit.export
    def encode(self, x):
        h = self.maps(x)
        self.act(h.view(h.size(0), -1))
        mu = self.mu(h.flatten(1))
        return mu, mu


class Greedy(Maps):
    """Changes what it is given."""

    @torch.jit.export
    def encode(self, x):
        x.clamp_(-0.3, 0.7)
        mu = self.mu(self.maps(x).flatten(1))
        return mu, mu

    @torch.jit.export
    def decode(self, z):
        z *= 2.0
        return torch.sigmoid(self.d(z)).view(-1, 1, 8, 8)


class Desk(Maps):
    """Works in a buffer of its own, which it returns."""

    def __init__(self):
        super().__init__()
        self.register_buffer("work", torch.zeros(64, 64))

    @torch.jit.export
    def encode(self, x):
        mu = self.mu(self.maps(x).flatten(1))
        return mu, mu

    @torch.jit.export
    def decode(self, z):
        out = self.work[: z.size(0)]
        out.copy_(self.d(z))
        return out.sigmoid_().view(-1, 1, 8, 8)


class Listed(Maps):
    """Returns a list."""

    @torch.jit.export
    def encode(self, x) -> List[torch.Tensor]:
        mu = self.mu(self.maps(x).flatten(1))
        return [mu, mu * 0.5]


class Chained(Maps):
    """A sample's code depends on those before it."""

    @torch.jit.export
    def encode(self, x):
        mu = self.mu(self.maps(x).flatten(1)).cumsum(0)
        return mu, mu

    @torch.jit.export
    def decode(self, z):
        return torch.sigmoid(self.d(z.cumsum(0))).view(-1, 1, 8, 8)


class Rectified(Maps):
    """ReLUs behind a convolution and a layer: in place, of what others read too, in a branch, and twice."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(128, 128)

    @torch.jit.export
    def encode(self, x):
        read = self.b(self.act(self.a(x)))
        h = (torch.relu(read) + read).flatten(1)
        flat = self.wide(h)
        if x.size(0) > 1:
            flat = torch.relu(flat)
        again = torch.relu(torch.relu(self.wide(flat)))
        mu = self.mu(again - torch.relu(self.wide(h)))
        return mu, mu


class Extension(NoEncode):
    """Calls an operator of an extension."""

    @torch.jit.export
    def encode(self, x):
        h = torch.ops.mine.twice(self.e(x.flatten(1)))
        return h, h


class Whole(Base):
    def forward(self, x):
        return self.d(self.e(x.flatten(1))).view(-1, 1, 2, 3)


def unread():
    """Files that are no TorchScript, or that libtorch cannot load."""
    torch.manual_seed(1)
    base = Base()
    torch.save(base, HERE / "others/pickled.pt")
    torch.save(base.state_dict(), HERE / "others/old.pt", _use_new_zipfile_serialization=False)
    with tempfile.NamedTemporaryFile(suffix=".pt2") as raw:
        torch.export.save(torch.export.export(Whole(), (torch.rand(1, 1, 2, 3),)), raw.name)
        # Without the folders of the machine that ran this.
        with zipfile.ZipFile(raw.name) as old, zipfile.ZipFile(HERE / "others/exported.pt2", "w") as new:
            for entry in old.namelist():
                name = f"exported/{entry.split('/', 1)[1]}"
                text = old.read(entry).replace(str(HERE).encode(), b".")
                new.writestr(zipfile.ZipInfo(name), re.sub(rb'/[^"\\]*/site-packages', b"site-packages", text))
    library = torch.library.Library("mine", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    script("others/extension", Extension())
    inputs = {"encode": torch.rand(1, 1, 2, 3), "decode": torch.rand(1, 2)}
    script("others/traced", torch.jit.trace_module(Traced().eval(), inputs))
    script("others/traced_deep", TracedDeep())


def others():
    """Models as others have them, which must come out as Flat, or be refused by name."""
    for name, module in {"ranged": Ranged(), "std": Std(), "logstd": LogStd(), "var": Var(), "spatial": Spatial(),
                         "four": Four(), "lone": Lone(), "vector": Vector(), "series": Series(), "volume": Volume(),
                         "rounded": Rounded(), "logits": Logits(), "remembers": Remembers(), "halved": Halved(),
                         "on_cuda": OnCuda(), "single": Single(), "points": Points(), "only_points": OnlyPoints(),
                         "flat_points": FlatPoints()}.items():
        script(f"others/{name}", module)
    inputs = {"encode": torch.rand(2, 2, 3), "decode": torch.rand(2, 2)}
    script("others/recurrent", torch.jit.trace_module(Recurrent().eval(), inputs))


def scripts():
    for name, module in {"flat": Flat(), "no_encode": NoEncode(), "no_decode": NoDecode(), "one_tensor": OneTensor(),
                         "three": Three(), "mixed": Mixed(), "number": Number(), "disagree": Disagree(),
                         "nan": NotANumber(), "wide": Wide(), "standardised": Standardised(), "once": Once(), "dropout": Dropout()}.items():
        script(name, module)
    torch.save(Base().state_dict(), HERE / "state_dict.pt")
    # What PyTorch makes of the good one, in f64.
    model = torch.jit.load(HERE / "flat.pt")
    model.e.double(), model.d.double()
    x = torch.linspace(0, 1, 18, dtype=torch.float64).reshape(3, 1, 2, 3)
    mean = model.encode(x)[0]
    save(HERE / "flat.safetensors", {"x": x, "mean": mean, "log_var": model.encode(x)[1], "x_hat": model.decode(mean)})


class Traced2d(nn.Module):
    """Convolutions and transposed ones as they are traced: 1x8x8 images, two latents."""

    def __init__(self):
        super().__init__()
        self.down, self.mean, self.log_var = nn.Conv2d(1, 3, 4, 2, 1), nn.Linear(48, 2), nn.Linear(48, 2)
        self.up, self.back = nn.Linear(2, 48), nn.ConvTranspose2d(3, 1, 4, 2, 1)

    def encode(self, x):
        h = torch.relu(self.down(x)).flatten(1)
        return self.mean(h), self.log_var(h)

    def decode(self, z):
        return torch.sigmoid(self.back(torch.relu(self.up(z)).view(-1, 3, 4, 4)))


def traced_maps():
    torch.manual_seed(6)
    inputs = {"encode": torch.rand(2, 1, 8, 8), "decode": torch.rand(2, 2)}
    script("maps/traced", torch.jit.trace_module(Traced2d().eval(), inputs))


def maps():
    torch.manual_seed(5)
    for name, module in {"viewed": Viewed(), "written": Written(), "strided": Strided(), "counting": Counting()}.items():
        script(f"maps/{name}", module)


def rectified():
    module = Rectified()
    script("maps/rectified", module)
    # What PyTorch makes of it, in f64.
    x = torch.linspace(-1, 1, 320, dtype=torch.float64).reshape(5, 1, 8, 8).sin()
    module.double()
    save(HERE / "maps/rectified.safetensors", {"x": x, "mean": module.encode(x)[0], "first": module.encode(x[:1])[0]})


def written():
    torch.manual_seed(7)
    x = torch.linspace(-1, 1, 320, dtype=torch.float64).reshape(5, 1, 8, 8).sin()
    stored = {"x": x}
    for name, module in {"late": Late(), "lent": Lent(), "greedy": Greedy(), "desk": Desk(), "listed": Listed(), "chained": Chained()}.items():
        script(f"maps/{name}", module)
        # What PyTorch makes of it, in f64.
        module.double()
        mean = module.encode(x.clone())[0]
        stored |= {f"{name}.mean": mean, f"{name}.x_hat": module.decode(mean.clone())}
    # Frozen: weights are constants of the code.
    frozen = torch.jit.freeze(torch.jit.script(Viewed().eval().double()), preserved_attrs=["encode", "decode"])
    packed("maps/frozen", frozen)
    mean = frozen.encode(x)[0]
    save(HERE / "maps/written.safetensors", stored | {"frozen.mean": mean, "frozen.x_hat": frozen.decode(mean)})


class Value(nn.Module):
    """Judges an image by one value, [B]."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(6))

    def forward(self, image):
        return (image.flatten(1) * self.w).sum(1)


class Codes(nn.Module):
    """Judges a code by three logits, [B, 3]."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(2, 3)

    def forward(self, code):
        return self.f(torch.tanh(code))


class Silent(nn.Module):
    """Its answer has no gradient."""

    def forward(self, image):
        return image.flatten(1).argmax(1)


def judges():
    for name, module in {"value": Value(), "codes": Codes(), "silent": Silent()}.items():
        script(f"judges/{name}", module)


if __name__ == "__main__":
    twins()
    scripts()
    others()
    unread()
    maps()
    rectified()
    written()
    traced_maps()
    judges()
