"""What Python costs: `pb.score` and `pb.attack` in process, the program on the TorchScript of the same network, and plain PyTorch.

    make python PROFILE=release && .venv/bin/python benches/python.py --binary target/release/pullback

The networks and images are those of peer.py. A call in Python counts whole, from images in memory to results in a file of its own; of the
program only what it computed for counts, without its start, its reading and its storing. The peer is `vmap(jacrev)` and `eigvalsh` at the
fastest of several chunks, and PGD as PyTorch users write it (peer.pgd). Each is asked once before the clock counts, then all in turn, a round
after the other; times are medians of the rounds, and the ratio to the program is also given of the fastest, which neighbours of a machine
disturb least. Results must agree before their times are printed.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

# How much longer than the program computes a call in Python may take.
TARGET = 1.1
CHUNKS = (16, 64, 256, 1024)
WORKS = ("mean", "stochastic", "pgd")
# Share of lambda_1 by which spectra may differ, and share of the mean damage by which attacks may.
SPECTRA, DAMAGE = 1e-4, 0.03


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def of_python(model, x, work):
    """Seconds of a whole call, and its eigenvalues [N, R] or damage [N, 1]."""
    import peer
    import pullback as pb

    if work == "pgd":
        options = {"attacks": ["pgd"], "eps": [peer.EPSILON], "steps": peer.STEPS, "save_images": False, "quiet": True}
        seconds, found = timed(lambda: pb.attack(model, x, **options))
        return seconds, found.measure("pgd", "latent_l2")[0][:, None]
    seconds, found = timed(lambda: pb.score(model, x, metric=work, quiet=True))
    return seconds, found.spectrum


def of_program(binary, folder, net, work, count, threads):
    """Seconds that the program computed for, and the same result."""
    import peer
    import pullback as pb

    out = folder / f"{net}-{work}.h5"
    asked = ["attack", "--attack", "pgd", "--eps", peer.EPSILON, "--steps", peer.STEPS] if work == "pgd" else ["score", "--metric", work]
    subject = ["--model", folder / f"{net}.pt", "--data", folder / "images.h5", "--limit", count, "--device", "cpu", "--threads", threads]
    command = [binary, *asked, "-v", "--force", *subject, "-o", out]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    computed = re.search(r"computing ([0-9.]+) s", done.stderr)
    if done.returncode != 0 or computed is None:
        raise SystemExit(f"pullback ended with {done.returncode}: {done.stderr.strip()}")
    found = pb.open(out)
    return float(computed[1]), found.measure("pgd", "latent_l2")[0][:, None] if work == "pgd" else found.spectrum


def peer_of(vae, x, work):
    """Functions of a chunk, each from images in memory to a result in memory; an attack takes all at once."""
    import peer
    import torch
    from torch.func import jacrev, vmap

    if work == "pgd":
        return {len(x): peer.pgd(vae, x)}

    def rows(image):
        mu, logvar = vae.encode(image[None])
        return torch.cat([mu[0], torch.exp(0.5 * logvar[0])]) if work == "stochastic" else mu[0]

    def spectra(chunk):
        # The Gram matrices too by chunks: Jacobians of all images at once would only fill memory.
        parts = []
        for part in x.split(chunk):
            factor = vmap(jacrev(rows))(part).flatten(2)
            parts.append(torch.linalg.eigvalsh(factor @ factor.mT).flip(-1))
        return torch.cat(parts)

    return {chunk: lambda chunk=chunk: spectra(chunk) for chunk in CHUNKS}


def agree(found, expected, work):
    found, expected = found.double(), expected.double()
    if work == "pgd":
        return abs(found.mean() / expected.mean() - 1) < DAMAGE
    return bool(((found - expected).abs().amax(1) <= SPECTRA * expected[:, 0]).all())


def measured(options, folder, net, work):
    """A line of the table."""
    import h5py
    import peer
    import pullback as pb
    import torch

    with h5py.File(folder / "images.h5") as file:
        x = torch.from_numpy(file["images"][: options.images])
    vae = peer.torch_model(net)
    model, ways = pb.Model(vae), peer_of(vae, x, work)
    for way in ways.values():
        way()
    chunk = min(ways, key=lambda chunk: timed(ways[chunk])[0])
    contenders = {
        "python": lambda: of_python(model, x, work),
        "program": lambda: of_program(options.binary, folder, net, work, len(x), options.threads),
        "peer": lambda: timed(ways[chunk]),
    }
    # The first answers of all are the check's.
    answers = {name: ask()[1] for name, ask in contenders.items()}
    for name in ("python", "peer"):
        if not agree(answers[name], answers["program"], work):
            raise SystemExit(f"{net}, {work}: the results of {name} are not the program's")
    seconds = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, ask in contenders.items():
            seconds[name].append(ask()[0])
    python, program, other = (statistics.median(seconds[name]) for name in ("python", "program", "peer"))
    fastest = min(seconds["python"]) / min(seconds["program"])
    told = "PGD in PyTorch" if work == "pgd" else f"torch.func by {chunk}"
    spread = max((max(s) - min(s)) / statistics.median(s) for s in seconds.values())
    return (
        f"{net:5} {work:11} {python:9.2f} s {program:9.2f} s {other:9.2f} s  {python / program:8.2f} {'yes' if python <= TARGET * program else 'NO':>4} {fastest:8.2f}"
        f" {other / python:8.1f}  {100 * spread:4.0f} %  {told}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/pullback")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nets", nargs="+", choices=["mlp", "conv"], default=["mlp", "conv"])
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    options = parser.parse_args()
    # Before torch reads it.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import peer
    import pullback as pb
    import torch

    # These networks are not trained, which is warned of.
    warnings.simplefilter("ignore", pb.PullbackWarning)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="pullback-") as name:
        folder = Path(name)
        peer.prepare(folder, options.nets, count=options.images)
        print(f"{options.images} images, {options.threads} threads, medians of {options.rounds} rounds, {torch.__version__}")
        print(f"{'':17} {'python':>11} {'program':>11} {'peer':>11}  {'to program':>8} {f'<={TARGET}':>4} {'fastest':>8} {'lead':>6}  {'spread':>6}  peer")
        for net in options.nets:
            for work in options.works:
                print(measured(options, folder, net, work), flush=True)


if __name__ == "__main__":
    main()
