"""What one run of `--attack suite` finds of what it and runs with other seeds find together: its optimality, image by image.

    python benches/seeds.py IMAGES.h5 MODEL.pt... --binary target/release/pullback [--count 64] [--seeds 10] [--norm l2,linf]

The best known of an image is the most that any of the runs did, seed 0 and the others; of each run's worst attack (`/worst`) the damage counts.
"""

import argparse
import pathlib
import subprocess
import tempfile

import h5py
import numpy as np

SIZES = {"l2": "1,2", "linf": "0.05,0.15"}


def suite(options, model, norm, seed, folder):
    """Damage [E, N] of the suite's worst, and its passes forward and back."""
    out = pathlib.Path(folder) / f"{seed}.h5"
    subprocess.run([options.binary, "attack", "-q", "-m", model, "-d", options.images, "--limit", str(options.count), "--seed", str(seed),
                    "--attack", "suite", "--norm", norm, "--eps", SIZES[norm], "-o", out], check=True)
    with h5py.File(out) as file:
        passes = [float(file[f"passes/suite/{way}"][...].mean()) for way in ("forward", "backward")]
        return file["damage/suite"][...], passes, file.attrs.get("suite", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10, help="runs besides that of seed 0")
    parser.add_argument("--norm", default="l2,linf")
    options = parser.parse_args()
    rows = []
    for model in options.models:
        for norm in options.norm.split(","):
            with tempfile.TemporaryDirectory() as folder:
                runs = [suite(options, model, norm, seed, folder) for seed in range(options.seeds + 1)]
            damage = np.stack([run[0] for run in runs])  # [S, E, N]
            best = damage.max(0)
            others = damage[1:].max(0)
            for e, size in enumerate(SIZES[norm].split(",")):
                shares = damage[:, e] / best[e]
                against = damage[0, e] / others[e]
                rows.append((shares.mean(), shares[0].mean(), shares[0].min()))
                forward, backward = runs[0][1]
                print(f"{pathlib.Path(model).stem:12s} {norm:4s} {size:5s} {runs[0][2]} ({forward:.0f} forward, {backward:.0f} back): of the best known "
                      f"{shares[0].mean():.3f} / {shares[0].min():.2f} (mean / worst of {damage.shape[2]} images), all {len(runs)} seeds "
                      f"{shares.mean():.3f} / {np.min(shares):.2f}; against the others' best {against.mean():.3f} / {against.min():.2f}", flush=True)
    means, own, worst = map(np.array, zip(*rows))
    print(f"mean of rows {own.mean():.3f} (all seeds {means.mean():.3f}), least mean {own.min():.3f}, worst image {worst.min():.2f}")


main()
