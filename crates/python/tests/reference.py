"""Pullback metrics by torch.func in float64, as docs/mathematics.md defines them."""

from __future__ import annotations

import torch
from torch.func import jacfwd, jacrev

METRICS = ("mean", "stochastic", "fisher", "output", "output-stochastic")


def eigenvalues(encode, decode, x, metric):
    """Descending, [N, R]: `encode(x)` gives mu and ln sigma^2 [B, L], `decode(z)` images, all in float64."""

    def both(one):
        mu, logvar = encode(one[None])
        return mu[0], logvar[0]

    def rows(one):
        j_mu, j_logvar = (j.flatten(1) for j in jacrev(both)(one))
        mu, logvar = both(one)
        sigma = (0.5 * logvar).exp()
        j_sigma = 0.5 * sigma[:, None] * j_logvar
        match metric:
            case "mean":
                return j_mu
            case "stochastic":
                return torch.cat([j_mu, j_sigma])
            case "fisher":
                return torch.cat([j_mu / sigma[:, None], j_logvar / 2**0.5])
        j_g = jacfwd(lambda z: decode(z[None])[0].flatten())(mu)
        if metric == "output":
            return j_g @ j_mu
        return torch.cat([j_g @ j_mu, j_g.norm(dim=0)[:, None] * j_sigma])

    factor = torch.stack([rows(one) for one in x.double()]) if x.shape[0] else None
    values = torch.linalg.svdvals(factor).square()
    return values


def spectra_agree(found, expected, tolerance=2e-6):
    """Relative to the largest eigenvalue of each sample."""
    count = min(found.shape[1], expected.shape[1])
    gap = (found[:, :count] - expected[:, :count]).abs().amax(1) / expected[:, 0]
    assert gap.max() < tolerance, gap
    assert (found[:, count:].abs() <= tolerance * expected[:, :1]).all()


