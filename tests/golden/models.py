"""The models of the golden cases: one class a trap, as small as shows it.

Each has what `pullback` asks of a TorchScript model: encode(x) -> (mu, logvar) and decode(z) -> x_hat.
`CASES` maps a case's name to (make the model for an image shape, that shape, number of images).
"""

import math
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Vae(nn.Module):
    """Default decoder: two layers and a sigmoid. forward() exists only because TorchScript wants one."""

    def __init__(self, shape: Tuple[int, int, int], latent: int, hidden: int = 16):
        super().__init__()
        self.c, self.h, self.w = shape
        self.d1 = nn.Linear(latent, hidden)
        self.d2 = nn.Linear(hidden, self.c * self.h * self.w)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.d2(torch.tanh(self.d1(z)))).reshape(z.size(0), self.c, self.h, self.w)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


class Attention(Vae):
    """Patches as tokens, layer norm, two heads of fused attention, one vector out."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.patch = nn.Conv2d(self.c, 16, 4, stride=4)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.head = nn.Linear(16, 2 * latent)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        t = torch.flatten(self.patch(x), 2).transpose(1, 2)
        b, n, d = t.size(0), t.size(1), t.size(2)
        q, k, v = self.qkv(self.norm(t)).reshape(b, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
        a = F.scaled_dot_product_attention(q, k, v)
        t = t + self.out(a.transpose(1, 2).reshape(b, n, d))
        mu, logvar = self.head(F.gelu(t).mean(1)).chunk(2, 1)
        return mu, logvar


class GroupNormResidual(Vae):
    """Colour images, group norm, a skip connection, logvar as half of a chunk; up-sampling in the decoder."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.n1, self.n2 = nn.GroupNorm(4, 8), nn.GroupNorm(2, 8)
        self.k1, self.k2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 4 * 4, 2 * latent)
        self.d1 = nn.Linear(latent, 8 * 4 * 4)
        self.n3 = nn.GroupNorm(4, 8)
        self.d2 = nn.Conv2d(8, 3, 3, padding=1)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        h = self.stem(x)
        h = h + self.k2(F.silu(self.n2(self.k1(F.silu(self.n1(h))))))
        mu, logvar = self.head(torch.flatten(h, 1)).chunk(2, 1)
        return mu, logvar

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        h = F.silu(self.n3(self.d1(z).reshape(z.size(0), 8, 4, 4)))
        return torch.sigmoid(self.d2(F.interpolate(h, scale_factor=2.0, mode="nearest")))


class BatchNorm(Vae):
    """Batch norm with running statistics of its own, leaky ReLU, an image that is not square."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent, 24)
        self.c1, self.b1 = nn.Conv2d(self.c, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.f1, self.b2 = nn.Linear(6 * 3 * 4, 20), nn.BatchNorm1d(20)
        self.b3 = nn.BatchNorm1d(24)
        self.mu, self.lv = nn.Linear(20, latent), nn.Linear(20, latent)
        for b in (self.b1, self.b2, self.b3):
            b.running_mean.normal_(0, 0.3)
            b.running_var.uniform_(0.2, 2)
            nn.init.uniform_(b.weight, 0.5, 1.5)
            nn.init.normal_(b.bias, 0, 0.3)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        h = F.leaky_relu(self.b1(self.c1(x)), 0.1)
        h = F.leaky_relu(self.b2(self.f1(torch.flatten(h, 1))), 0.1)
        return self.mu(h), self.lv(h)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        h = torch.tanh(self.b3(self.d1(z)))
        return torch.sigmoid(self.d2(h)).reshape(z.size(0), self.c, self.h, self.w)


class Mlp(Vae):
    """The plain encoder that the remaining cases bend."""

    def __init__(self, shape, latent, hidden: int = 20):
        super().__init__(shape, latent)
        self.f1, self.f2 = nn.Linear(self.c * self.h * self.w, hidden), nn.Linear(hidden, hidden)
        self.mu, self.lv = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def body(self, x: Tensor) -> Tensor:
        return F.elu(self.f2(torch.tanh(self.f1(torch.flatten(x, 1)))))

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mu(h), self.lv(h)


class IllScaled(Mlp):
    """Rows of J_mu spread over 1e4 in no order, eigenvalues over 1e8; sigma over 1e2; the decoder undoes the scale.
    A symmetric square root of M in f32 is off by 9 % of lambda_1 and more here (torch.linalg.eigh)."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        with torch.no_grad():
            scale = torch.logspace(2, -2, latent)[[3, 0, 5, 1, 4, 2]]
            self.mu.weight *= scale[:, None]
            self.mu.bias *= scale
            self.lv.bias += torch.linspace(2, -4, latent)
            self.d1.weight /= scale


class MixedScales(Mlp):
    """Scales spread over 1e3 and then rotated, so that every latent holds all of them; the decoder undoes both.
    What forms M in f32 (a square root, Cholesky, J_mu^T M J_mu) is off by 5e-3 of lambda_1; QR of J_g by 6e-6."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        with torch.no_grad():
            rotation = torch.linalg.qr(torch.randn(latent, latent, dtype=torch.float64))[0]
            mix = rotation * torch.logspace(1.5, -1.5, latent, dtype=torch.float64)
            self.mu.weight.copy_(mix @ self.mu.weight.double())
            self.mu.bias.copy_(mix @ self.mu.bias.double())
            self.d1.weight.copy_(self.d1.weight.double() @ torch.linalg.inv(mix))


class ClampedLogvar(Mlp):
    """logvar clamped: some rows of J_sigma are zero for some samples."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mu(h), torch.clamp(2 * self.lv(h), -1.5, 1.0)


class FreeLogvar(Mlp):
    """logvar is a parameter: it does not depend on x, and autograd has no gradient to give."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.lv = nn.Identity()
        self.logvar = nn.Parameter(torch.linspace(-2, 1, latent))

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        mu = self.mu(self.body(x))
        return mu, self.logvar.expand_as(mu)


class IgnoredLatent(Mlp):
    """The decoder never reads the last two latents: M is singular, so a Cholesky factor of it fails."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.d1 = nn.Linear(latent - 2, 16)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        z = z[:, : z.size(1) - 2]
        return torch.sigmoid(self.d2(torch.tanh(self.d1(z)))).reshape(z.size(0), self.c, self.h, self.w)


class Collapsed(Mlp):
    """ReLUs that are all off for the black image and on for others: zero Jacobians amid live ones."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        with torch.no_grad():
            self.f1.bias.uniform_(-0.3, -0.01)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        h = F.relu(self.f1(torch.flatten(x, 1)))
        return self.mu(h), self.lv(h)


class RankDeficient(Mlp):
    """A ReLU bottleneck narrower than the latents: exact zeros that rounding must not turn into rank."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent, 5)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        h = F.relu(self.f1(torch.flatten(x, 1)))
        return self.mu(h), self.lv(h)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return self.d2(F.relu(self.d1(z))).reshape(z.size(0), self.c, self.h, self.w)


def widen(model: nn.Module, gain: float) -> nn.Module:
    """Scales every weight matrix: PyTorch's initial weights alone make nearly linear maps."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p *= gain
    return model


CASES = {
    "attention": (lambda s: widen(Attention(s, 4), 2.5), (1, 8, 8), 4),
    "batch_norm": (lambda s: widen(BatchNorm(s, 5), 2.0), (3, 6, 8), 4),
    "clamped_logvar": (lambda s: widen(ClampedLogvar(s, 4), 3.0), (1, 6, 6), 5),
    "collapsed": (lambda s: widen(Collapsed(s, 4), 2.0), (1, 6, 5), 4),
    "free_logvar": (lambda s: widen(FreeLogvar(s, 4), 3.0), (1, 6, 6), 4),
    "group_norm_residual": (lambda s: widen(GroupNormResidual(s, 5), 2.0), (3, 8, 8), 3),
    "ignored_latent": (lambda s: widen(IgnoredLatent(s, 5), 3.0), (1, 6, 6), 4),
    "ill_scaled": (lambda s: IllScaled(s, 6), (1, 7, 6), 4),
    "mixed_scales": (lambda s: MixedScales(s, 6), (1, 7, 6), 4),
    "one_latent": (lambda s: widen(Mlp(s, 1), 3.0), (1, 5, 4), 1),
    "rank_deficient": (lambda s: widen(RankDeficient(s, 8), 2.0), (1, 7, 5), 5),
    "wide_latent": (lambda s: widen(Mlp(s, 16), 3.0), (1, 3, 4), 4),
}


def images(shape: Tuple[int, int, int], count: int) -> Tensor:
    """Smooth blobs in [0, 1], [count, C, H, W] f32; the first is black."""
    c, h, w = shape
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    out = torch.zeros(count, c, h, w)
    for n in range(1 if count > 1 else 0, count):
        for k in range(c):
            cy, cx, width = torch.rand(3).tolist()
            blob = torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.05 + 0.3 * width))
            out[n, k] = blob * (0.6 + 0.4 * math.cos(2 * n + k)) + 0.1 * torch.rand(h, w)
    return out.clamp(0, 1)
