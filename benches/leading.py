"""Leading eigenpairs of an AutoencoderKL's encoder: pullback against block power iteration by torch.func, at equal accuracy.

    .venv/bin/python benches/leading.py --binary target/release/pullback

The encoder is diffusers' (32 and 64 channels, group norm, SiLU, attention in the middle, four channels of codes), written out, on one image
of 3 x 64 x 64: the metric `mean` is 12,288 x 12,288, its factor has 4,096 rows. The peer is V <- orth(J^T J V) with `linearize` and `vjp` of
torch.func, vmapped over the columns of V, and Rayleigh quotients within the block. Both are f32. Accuracy is the largest |G v - lambda v| /
lambda_1 over the pairs, in float64. The peer stops at pullback's accuracy, or at `--most` times its time, and is then reported as not there.
pullback's time is what its program computed for, without starting.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import linearize, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from typing import Tuple

PAIRS = 3


class Residual(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, i, eps=1e-6), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(8, o, eps=1e-6), nn.Conv2d(o, o, 3, 1, 1)
        self.short = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        return self.short(x) + self.conv2(nn.functional.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.GroupNorm(8, c, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Linear(c, c) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        t = self.norm(x).flatten(2).transpose(1, 2)
        weights = torch.softmax(self.q(t) @ self.k(t).transpose(1, 2) / float(c) ** 0.5, -1)
        return x + self.out(weights @ self.v(t)).transpose(1, 2).reshape(b, c, h, w)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, 1, 1), Residual(32, 32), Residual(32, 32), nn.Conv2d(32, 32, 3, 2, 1),
            Residual(32, 64), Residual(64, 64), Residual(64, 64), Attention(64), Residual(64, 64),
            nn.GroupNorm(8, 64, eps=1e-6), nn.SiLU(), nn.Conv2d(64, 8, 3, 1, 1), nn.Conv2d(8, 8, 1),
        )
        self.back = nn.ConvTranspose2d(4, 3, 2, 2)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        parts = self.body(2 * x - 1)
        return parts[:, :4].flatten(1), parts[:, 4:].flatten(1)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.back(z.view(-1, 4, 32, 32)))

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)[0]


def residual(model, x, values, vectors):
    """Largest |G v - lambda v| / lambda_1, in float64."""
    exact = Encoder().double().eval().requires_grad_(False)
    exact.load_state_dict(model.state_dict())
    code = lambda image: exact.encode(image[None])[0][0]
    push, pull = linearize(code, x.double())[1], vjp(code, x.double())[1]
    gaps = [(pull(push(v))[0] - value * v).norm() for value, v in zip(values.double(), vectors.double())]
    return (torch.stack(gaps).max() / values[0]).item()


def block_power(model, x, seconds, accuracy):
    """Iterates until `accuracy`, looked up every 10 steps outside of the clock, or `seconds`: seconds, accuracy and steps."""
    code = lambda image: model.encode(image[None])[0][0]
    spent, steps = 0.0, 0
    start = time.perf_counter()
    push, pull = linearize(code, x)[1], vjp(code, x)[1]
    product = vmap(lambda v: pull(push(v))[0])
    block = torch.linalg.qr(torch.randn(x.numel(), PAIRS, generator=torch.Generator().manual_seed(0)))[0]
    while True:
        image = product(block.T.reshape(-1, *x.shape)).flatten(1).T
        # Rayleigh quotients within the block, as its vectors would otherwise be mixtures.
        small, turn = torch.linalg.eigh(block.T @ image)
        values, vectors = small.flip(0), (block @ turn).flip(1)
        block = torch.linalg.qr(image)[0]
        steps += 1
        spent += time.perf_counter() - start
        if steps % 10 == 0 or spent > seconds:
            found = residual(model, x, values, vectors.T.reshape(-1, *x.shape))
            if found <= accuracy or spent > seconds:
                return spent, found, steps
        start = time.perf_counter()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--most", type=float, default=10, help="times pullback's time after which the peer is stopped")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = Encoder().eval().requires_grad_(False)
    x = torch.rand(1, 3, 64, 64)
    with tempfile.TemporaryDirectory() as folder, sdpa_kernel(SDPBackend.MATH):
        folder = Path(folder)
        torch.jit.script(model).save(str(folder / "kl.pt"))
        np.save(folder / "x.npy", x.numpy())
        command = [options.binary, "score", "-m", folder / "kl.pt", "-d", folder / "x.npy", "-o", folder / "s.h5", "--metric", "mean",
                   "--spectrum", "top", "--top", str(PAIRS), "--threads", str(options.threads), "-v", "--force"]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        ours = float(re.search(r"computing ([\d.]+) s", run.stderr.replace("\n", " "))[1])
        with h5py.File(folder / "s.h5") as f:
            values = torch.from_numpy(f["spectrum/eigenvalues"][0, :PAIRS])
            vectors = torch.from_numpy(f["spectrum/directions"][0]).reshape(-1, 3, 64, 64)
        accuracy = residual(model, x[0], values, vectors)
        print(f"pullback: {ours:.1f} s, lambda {[round(v, 4) for v in values.tolist()]}, accuracy {accuracy:.1e}", flush=True)
        spent, found, steps = block_power(model, x[0], options.most * ours, accuracy)
        there = found <= accuracy
        print(f"block power iteration, {steps} steps: {spent:.1f} s, accuracy {found:.1e}" + ("" if there else ", stopped there"))
        print(f"{'' if there else 'more than '}{spent / ours:.1f} times pullback's time")


if __name__ == "__main__":
    main()
