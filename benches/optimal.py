"""What the spectrum says of attacks, image by image: three tables for docs/evaluation.md.

    python benches/optimal.py IMAGES.h5 MODEL.pt... --binary target/release/pullback [--count 64] [--parts step,scores,margin]

step:   the share of the suite's damage that one step along v_1 does (L2), or epsilon sign(v_1) (Linf), by epsilon; mean over the images and
        its bootstrap interval of 95 %. Goal `latent`, metric `mean`, no box.
scores: Spearman's rho over the images of each score of `score` with the suite's damage, by epsilon; box [0, 1]. Its standard error is about
        1 / sqrt(images - 1) where there is no relation.
margin: the margin of robustness of `score --margin R` beside the smallest perturbation (L2, no box) that `attack minimal` finds to change
        the reconstruction of mu by R. The margin's criterion is broken by a perturbation if at least half of the draws of the moved code are
        reconstructed farther than R from the clean mu; only such a one below the margin speaks against it ("both"). The criterion is judged
        here, in PyTorch, by 1,000 draws, so this part takes TorchScript files only. (The margin is to first order, and no certificate.)
"""

import h5py
import numpy as np
from scipy.stats import spearmanr
from studies import arguments, computed, interval, name, table

# Of the step: from where it is optimal to where images visibly change. Those of Linf are about as long over 32 x 32 pixels.
STEPS = {"l2": (0.01, 0.03, 0.1, 0.3, 1, 2), "linf": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)}

# Of the suite in the tables of models.
SIZES = {"l2": (0.5, 1, 2), "linf": (0.05, 0.1, 0.15)}

# Radii within which smallest perturbations are sought; one is found to 1/256 of its radius.
RADII = (0.25, 1, 4)

DRAWS = 1000


def attacked(options, model, kinds, norm, sizes, *flags):
    return computed(options, "attack", model, "--attack", kinds, "--norm", norm, "--eps", ",".join(map(str, sizes)), "--goal", "latent", *flags)


def step(options):
    print(f"share of the suite's damage that one step along v_1 does: mean [95 %] of {options.count} images; worst image", flush=True)
    for norm, sizes in STEPS.items():
        rows = []
        for model in options.models:
            file = attacked(options, model, "spectral,suite", norm, sizes, "--metric", "mean", "--box", "off")
            cells = []
            for share in file["damage/spectral"] / file["damage/suite"]:
                mean, low, high = interval(share)
                cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]; {np.nanmin(share):.2f}")
            rows.append([name(model), *cells])
        table([norm, *map(str, sizes)], rows)


def scores(options):
    print(f"Spearman's rho over {options.count} images of each score with the suite's damage, by norm and epsilon", flush=True)
    for model in options.models:
        damage = [(norm, size, row) for norm, sizes in SIZES.items()
                  for size, row in zip(sizes, attacked(options, model, "suite", norm, sizes)["damage/suite"])]
        rows = []
        for metric in options.metric.split(","):
            file = computed(options, "score", model, "--metric", metric)
            for path in sorted(path for path in file if path.startswith("scores/")):
                cells = []
                for _, _, row in damage:
                    known = np.isfinite(file[path]) & np.isfinite(row)
                    # A score that is the same for all images orders none.
                    varies = known.sum() > 2 and np.ptp(file[path][known]) > 0
                    cells.append(f"{spearmanr(file[path][known], row[known]).statistic:+.2f}" if varies else "-")
                rows.append([f"{metric} {path.removeprefix('scores/')}", *cells])
        table([name(model), *(f"{norm} {size}" for norm, size, _ in damage)], rows)


def broken(model, images, moved, r):
    """Whether the criterion is broken at each of `moved`: at most half of the draws lie within r of the clean reconstruction. [N]"""
    import torch

    vae = torch.jit.load(model).eval()
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.no_grad():
        for x, y in zip(torch.from_numpy(images), torch.from_numpy(moved)):
            here = vae.decode(vae.encode(x[None])[0])
            mu, logvar = vae.encode(y[None])
            z = mu + (0.5 * logvar).exp() * torch.randn((DRAWS, mu.shape[1]), generator=generator)
            found.append(((vae.decode(z) - here).flatten(1).norm(dim=1) <= r).double().mean().item() <= 0.5)
    return np.array(found)


def margin(options):
    print(f"margin of robustness beside the smallest perturbation found (L2), {options.count} images", flush=True)
    rows = []
    with h5py.File(options.images) as file:
        pixels = np.prod(file["images"].shape[1:])
    for model in options.models:
        for r in map(float, options.radii.split(",")):
            margins = computed(options, "score", model, "--metric", "mean", "--margin", r)["margin/radius"]
            # The goal is a mean over the pixels, r a length.
            file = computed(options, "attack", model, "--attack", "minimal", "--goal", "recon", "--reach", r**2 / pixels, "--norm", "l2",
                            "--eps", ",".join(map(str, RADII)), "--box", "off", "--save-images")
            sizes = file["smallest/minimal"]  # [E, N]
            best = np.where(np.isfinite(sizes), sizes, np.inf).argmin(0)
            each = np.arange(len(best))
            smallest, moved = sizes[best, each], file["attack/minimal/images"][best, each]
            known = np.isfinite(smallest) & np.isfinite(margins)
            above = known & (margins > smallest)
            breaks = np.zeros(len(known), bool)
            breaks[known] = broken(model, file["clean/images"][known], moved[known], r)
            some = known & (margins > 0)
            ratios = smallest[some] / margins[some]
            told = lambda values: f"{np.median(values):.3g}" if len(values) else "-"
            counts = [str(int(np.sum(which))) for which in (above, breaks, above & breaks)]
            rows.append([name(model), f"{r:g}", told(margins[np.isfinite(margins)]), str(int(np.sum(margins == 0))), str(int(known.sum())),
                         told(smallest[known]), told(ratios), f"{ratios.min():.3g}" if len(ratios) else "-", *counts])
    table(["model", "R", "median margin", "margin 0", "found", "median smallest", "smallest / margin, median", "least", "margin > smallest",
           "criterion broken there", "both"], rows)


def main():
    parser = arguments(__doc__, 64)
    parser.add_argument("--parts", default="step,scores,margin")
    parser.add_argument("--metric", default="stochastic,mean", help="of scores: the metrics")
    parser.add_argument("--radii", default="2,4,6", help="of margins: R, how far a reconstruction may change (L2)")
    options = parser.parse_args()
    parts = {"step": step, "scores": scores, "margin": margin}
    for part in options.parts.split(","):
        parts[part](options)
        print(flush=True)


main()
