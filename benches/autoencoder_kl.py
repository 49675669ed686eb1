"""Leading eigenpairs of `output-stochastic` for diffusers' AutoencoderKL at full size, held to float64.

    PYTHON benches/autoencoder_kl.py --result kl.h5          PYTHON: an environment with pullback, diffusers and scipy

One image of 3 x 64 x 64, a code of 4 x 32 x 32: the metric is J_mu^T M J_mu + J_sigma^T diag(M) J_sigma with M = J_g^T J_g, whose diagonal
takes all 4,096 columns of the decoder's Jacobian. The reference is torch alone: M's diagonal by forward-mode differentiation, a block of
columns at a time, and products with the metric by jvp and vjp in float64. It tells how far each pair is from an eigenpair,
|G v - lambda v| / lambda, and by how much eigenvalues are off those of a Lanczos method (scipy's eigsh). With `--columns float32` the
decoder's columns are taken in single precision, and their squares summed in double: half the time.

Minutes on two cores, most of them pullback's; `--side 16` is seconds.
"""

import argparse
import copy
import time
import types
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse.linalg
import torch
import torch.autograd.forward_ad as forward
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch.func import jvp, vjp

import pullback as pb


def network(side, seed):
    """As people make it, untrained, in evaluation mode."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=side,
    ).eval()


def smooth(side):
    """An image of noise without its finest detail."""
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(x, 5, 1, 2)


def group_norm(self, x):
    """As torch defines it. Its own kernel refuses the strides that forward mode gives it."""
    groups = x.reshape(len(x), self.num_groups, -1)
    centred = groups - groups.mean(-1, keepdim=True)
    normal = (centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()).reshape(x.shape)
    axes = (1, -1) + (1,) * (x.dim() - 2)
    return normal * self.weight.reshape(axes) + self.bias.reshape(axes)


def attention_scores(self, query, key, mask=None):
    """Without baddbmm into memory that is not set, and without a fused kernel: neither has a forward mode."""
    assert mask is None
    return (query @ key.transpose(-1, -2) * self.scale).softmax(-1)


def written_out(vae, dtype):
    """A copy of which every operation can be differentiated forwards."""
    twin = copy.deepcopy(vae).to(dtype).requires_grad_(False)
    for module in twin.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = types.MethodType(group_norm, module)
        if hasattr(module, "set_processor"):
            module.set_processor(AttnProcessor())
            module.get_attention_scores = types.MethodType(attention_scores, module)
    return twin


def column_squares(vae, mean, chunk):
    """The diagonal of M, [L] float64, at the code `mean` [1, c, h, w]: the squared length of each column of the decoder's Jacobian."""
    count = mean.numel()
    squares = torch.empty(count, dtype=torch.float64)
    for first in range(0, count, chunk):
        places = torch.arange(first, min(first + chunk, count))
        tangents = torch.zeros(len(places), count, dtype=mean.dtype)
        tangents[torch.arange(len(places)), places] = 1
        with forward.dual_level():
            codes = mean.expand(len(places), *mean.shape[1:]).contiguous()
            image = vae.decode(forward.make_dual(codes, tangents.reshape(codes.shape))).sample
            # Pixels from -1 to 1 are twice as far apart as those from 0 to 1.
            moved = forward.unpack_dual(image).tangent / 2
        squares[places] = moved.double().square().flatten(1).sum(1)
    return squares


def metric_of(vae, x, columns, chunk):
    """v -> G v in float64, for the image x [1, 3, S, S]."""
    exact = written_out(vae, torch.float64)
    point = x.double().flatten()

    def encode(pixels):
        posterior = exact.encode(2 * pixels.reshape(x.shape) - 1).latent_dist
        return posterior.mean.flatten(), posterior.std.flatten()

    shape = exact.encode(2 * x.double() - 1).latent_dist.mean.shape

    def decode(code):
        return (exact.decode(code.reshape(shape)).sample.flatten() + 1) / 2

    (mean, _), encoder_back = vjp(encode, point)
    _, decoder_back = vjp(decode, mean)
    asked = exact if columns == torch.float64 else written_out(vae, columns)
    diagonal = column_squares(asked, mean.to(columns).reshape(shape), chunk)

    def product(v):
        of_mean, of_sigma = jvp(encode, (point,), (v,))[1]
        through = decoder_back(jvp(decode, (mean,), (of_mean,))[1])[0]
        return encoder_back((through, diagonal * of_sigma))[0]

    return product


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--columns", choices=["float32", "float64"], default="float64")
    parser.add_argument("--chunk", type=int, default=32, help="columns of the decoder at a time")
    parser.add_argument("--result", type=Path, default=Path("autoencoder-kl.h5"), help="pullback's: opened where it is there, else written")
    options = parser.parse_args()
    # Networks that are not trained are warned of.
    warnings.simplefilter("ignore", pb.PullbackWarning)

    vae, x = network(options.side, options.seed), smooth(options.side)
    start = time.monotonic()
    if options.result.exists():
        scores = pb.open(options.result)
    else:
        scores = pb.score(vae, x, metric="output-stochastic", spectrum="top", top=options.pairs, out=options.result)
    print(f"pullback: {time.monotonic() - start:.0f} s")
    values = scores.spectrum[0, : options.pairs]
    vectors = scores.directions[0].double().flatten(1)

    start = time.monotonic()
    with torch.no_grad():
        product = metric_of(vae, x, getattr(torch, options.columns), options.chunk)
        for place, (value, vector) in enumerate(zip(values, vectors, strict=True)):
            vector = vector / vector.norm()
            residual = (product(vector) - value * vector).norm() / value
            print(f"pair {place}: lambda {value:.6g}, |G v - lambda v| / lambda {residual:.1e}")
        size = x.numel()
        told = scipy.sparse.linalg.LinearOperator(
            (size, size), matvec=lambda v: product(torch.as_tensor(v.reshape(-1))).numpy(), dtype=np.float64
        )
        exact = scipy.sparse.linalg.eigsh(told, k=options.pairs, which="LA", tol=1e-9, return_eigenvectors=False)
    exact = torch.from_numpy(np.sort(exact)[::-1].copy())
    print("eigenvalues off float64's by", ", ".join(f"{gap:.1e}" for gap in (values - exact).abs() / exact))
    print(f"reference: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
