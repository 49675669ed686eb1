"""Pullback metrics by torch.func in float64, as docs/mathematics.md defines them."""

from __future__ import annotations

import torch
from torch.func import jacfwd, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

METRICS = ("mean", "stochastic", "fisher", "output", "output-stochastic", "decoder")


def jacobians(encode, decode, x):
    """Of each sample: J_mu and J_logvar [L, D] (None without a variance), sigma [L], and J_g [O, L] at z = mu(x) (None without `decode`), in float64.

    `encode(x)` gives mu and ln sigma^2 [B, L], or mu and None; `decode(z)` images. Both take float64."""

    def both(one):
        mu, logvar = encode(one[None])
        return (mu[0],) if logvar is None else (mu[0], logvar[0])

    parts = []
    for one in x.double():
        with sdpa_kernel(SDPBackend.MATH):  # The others have no forward mode.
            parts.append(_of_one(both, decode, one))
    return parts


def _of_one(both, decode, one):
    rows = [j.flatten(1).detach() for j in jacrev(both, chunk_size=64)(one)]
    with torch.no_grad():
        code = both(one)
    j_g = None if decode is None else jacfwd(lambda z: decode(z[None])[0].flatten())(code[0]).detach()
    scale = (rows[1], (0.5 * code[1]).exp()) if len(rows) > 1 else (None, None)
    return rows[0], *scale, j_g


def spectra_of(parts, metric):
    """Descending eigenvalues, [N, R]."""

    def rows(j_mu, j_logvar, sigma, j_g):
        if j_g is not None:
            # J_g = Q C with orthonormal columns in Q: C has its singular values and column lengths, in fewer rows.
            j_g = torch.linalg.qr(j_g, mode="r").R
        if metric == "mean":
            return j_mu
        if metric == "decoder":
            return j_g
        if metric == "output":
            return j_g @ j_mu
        j_sigma = 0.5 * sigma[:, None] * j_logvar
        match metric:
            case "stochastic":
                return torch.cat([j_mu, j_sigma])
            case "fisher":
                return torch.cat([j_mu / sigma[:, None], j_logvar / 2**0.5])
            case _:
                return torch.cat([j_g @ j_mu, j_g.norm(dim=0)[:, None] * j_sigma])

    return torch.stack([torch.linalg.svdvals(rows(*part)).square() for part in parts])


def eigenvalues(encode, decode, x, metric):
    """Descending, [N, R], of one metric."""
    through = metric.startswith("output") or metric == "decoder"
    return spectra_of(jacobians(encode, decode if through else None, x), metric)


def spectra_agree(found, expected, tolerance=2e-6):
    """Relative to the largest eigenvalue of each sample."""
    count = min(found.shape[1], expected.shape[1])
    gap = (found[:, :count] - expected[:, :count]).abs().amax(1) / expected[:, 0]
    assert gap.max() < tolerance, gap
    assert (found[:, count:].abs() <= tolerance * expected[:, :1]).all()
