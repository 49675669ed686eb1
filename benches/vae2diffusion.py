"""The decoder's pullback metric as VAE2Diffusion computes it (Rao, Qu & Moyer 2025, "Latent diffusion inversion requires understanding the
latent space", arXiv:2511.20592), written anew, against `score --metric decoder`, on the same codes.

    python benches/vae2diffusion.py MODEL.pt IMAGES.h5 --binary target/release/pullback [--count 32] [--top 10] [--rounds 3]

MODEL.pt is TorchScript with encode and decode. As they do it: one image at a time, subspace iteration on G = J^T J from a random basis of k
columns. A product with J takes the columns one after the other, each by torch.autograd.functional.jvp (or by central differences of the
decoder, their fallback and their method `fd`), a product with J^T one backward pass after the other. 8 iterations in their code; fewer
where that is as exact. Eigenvalues of both are compared with those of the whole Jacobian in double.
"""

import argparse
import pathlib
import subprocess
import tempfile
import time

import h5py
import numpy as np
import torch
from torch.autograd.functional import jvp


def products(decode, z, columns):
    """Functions V -> J V and Y -> J^T Y, columns [L, k] and [O, k], one column after the other."""

    def forwards(v):
        return jvp(decode, (z.clone().requires_grad_(True),), (v,))[1].detach()

    def differences(v, h=1e-3):
        with torch.no_grad():
            return (decode(z + h * v) - decode(z - h * v)) / (2 * h)

    def back(y):
        at = z.clone().requires_grad_(True)
        return torch.autograd.grad(torch.dot(decode(at), y), at)[0]

    each = forwards if columns == "jvp" else differences
    along = lambda v: torch.stack([each(v[:, j].contiguous()) for j in range(v.shape[1])], 1)
    across = lambda y: torch.stack([back(y[:, j].contiguous()) for j in range(y.shape[1])], 1)
    return along, across


def theirs(vae, codes, k, iterations, columns):
    """The k largest eigenvalues of J^T J at each code, [N, k]."""
    found, generator = [], torch.Generator().manual_seed(0)
    for code in codes:
        decode = lambda flat: vae.decode(flat.view(1, *code.shape)).flatten()
        z = code.flatten()
        along, across = products(decode, z, columns)
        q = torch.linalg.qr(torch.randn(len(z), k, generator=generator))[0]
        for _ in range(iterations):
            q = torch.linalg.qr(across(along(q)))[0]
        jq = along(q)
        found.append(torch.linalg.eigvalsh(jq.T @ jq).flip(0).clamp_min(0))
    return torch.stack(found).double().numpy()


def exact(vae, codes, k):
    vae = vae.double()
    found = []
    for code in codes.double():
        rows = torch.autograd.functional.jacobian(lambda z: vae.decode(z[None]).flatten(), code, vectorize=True)
        found.append(torch.linalg.svdvals(rows.flatten(1))[:k] ** 2)
    vae.float()
    return torch.stack(found).numpy()


def ours(binary, model, images, count, k, latents):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "s.h5"
        command = [binary, "score", "-m", model, "-d", images, "--limit", str(count), "-o", str(out), "--metric", "decoder", "--top", str(k), "-q"]
        begun = time.perf_counter()
        subprocess.run([*command, *(["--spectrum", "top"] if k < latents else [])], check=True)
        seconds = time.perf_counter() - begun
        with h5py.File(out) as file:
            return file["spectrum/eigenvalues"][:, :k], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", default="8,0", help="of the subspace; with a basis of L columns the product is exact at once, with 0")
    options = parser.parse_args()
    vae = torch.jit.load(options.model).eval()
    for weight in vae.parameters():
        weight.requires_grad_(False)
    with h5py.File(options.images) as file:
        x = torch.from_numpy(file["images"][: options.count])
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    with torch.no_grad():
        codes = vae.encode(x)
        codes = codes[0] if isinstance(codes, tuple) else codes
    latents = codes[0].numel()
    k = min(options.top, latents)
    reference = exact(vae, codes, k)
    error = lambda values: float(np.max(np.abs(values - reference) / reference[:, :1]))
    print(f"{options.model}, {len(x)} images, L = {latents}, the {k} leading eigenvalues; torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads; errors in lambda_1, the largest of all", flush=True)
    ways = [(columns, int(count)) for columns in ("jvp", "fd") for count in options.iterations.split(",")]
    times = {way: [] for way in [*ways, "ours"]}
    errors = {}
    # In turn, so that other work on the machine falls on all alike.
    for _ in range(options.rounds):
        for way in ways:
            begun = time.perf_counter()
            errors[way] = error(theirs(vae, codes, k, way[1], way[0]))
            times[way].append(time.perf_counter() - begun)
        values, seconds = ours(options.binary, options.model, options.images, len(x), k, latents)
        errors["ours"] = error(values)
        times["ours"].append(seconds)
    own = np.array(times["ours"])
    print(f"ours: error {errors['ours']:.1e}, {np.median(own):.3g} s, the program's start included", flush=True)
    for columns, iterations in ways:
        seconds = times[columns, iterations]
        ratios = np.array(seconds) / own
        print(f"theirs, {columns}, {iterations} iterations: error {errors[columns, iterations]:.1e}, {np.median(seconds):.3g} s, "
              f"{np.median(ratios):.3g} times ours ({ratios.min():.3g} to {ratios.max():.3g})", flush=True)


main()
