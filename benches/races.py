"""What a budget of passes finds: the share of a long PGD's damage that other attacks do on the same image.

    python benches/races.py IMAGES.h5 MODEL.pt... --binary target/release/pullback [--count 64] [--norm l2,linf]

The reference is PGD with 8 starts of 200 falling steps from noise (1,616 passes forward, 1,600 back). Each attack and each size is a run
of its own, so that no attack begins with what it found at a smaller size. Goal `latent`, metric `mean`, box [0, 1], f32.
"""

import numpy as np
from studies import arguments, computed, name, table

SIZES = {"l2": (1, 2), "linf": (0.05, 0.15)}

REFERENCE = ("pgd", "--steps", 200, "--restarts", 8, "--schedule", "linear")

# By title: the attack and its flags. Eight starts of 120 steps take about as many passes as the suite.
ATTACKS = {
    "pgd 1x40": ("pgd", "--steps", 40),
    "pgd 8x120": ("pgd", "--steps", 120, "--restarts", 8, "--schedule", "linear"),
    "apgd 120": ("apgd", "--steps", 120),
    "race 120": ("race", "--budget", 120),
    "race 840": ("race", "--budget", 840),
    "suite": ("suite",),
}


def found(options, model, norm, size, attack):
    """Damage of each image [N], and the mean passes forward and back."""
    kind, *flags = attack
    file = computed(options, "attack", model, "--attack", kind, *flags, "--norm", norm, "--eps", size, "--metric", "mean", "--goal", "latent")
    passes = [file[f"passes/{kind}/{way}"][0].mean() for way in ("forward", "backward")]
    return file[f"damage/{kind}"][0], passes


def main():
    parser = arguments(__doc__, 64)
    parser.add_argument("--norm", default="l2,linf")
    options = parser.parse_args()
    print(f"share of the damage of pgd, 8 starts x 200 falling steps, on the same image: mean / worst of {options.count} images", flush=True)
    lines, means, worst, passes = [], [], [], []
    for model in options.models:
        for norm in options.norm.split(","):
            for size in SIZES[norm]:
                reference, most = found(options, model, norm, size, REFERENCE)
                shares, taken = [], []
                for attack in ATTACKS.values():
                    damage, ways = found(options, model, norm, size, attack)
                    shares.append(damage / reference)
                    taken.append(ways)
                means.append([np.nanmean(share) for share in shares])
                worst.append([np.nanmin(share) for share in shares])
                passes.append([*taken, most])
                lines.append([f"{name(model)} {norm} {size}", *(f"{m:.3f} / {w:.2f}" for m, w in zip(means[-1], worst[-1]))])
                # A long run shows at once how far it is.
                print(" | ".join(lines[-1]), flush=True)
    print()
    passes = np.mean(passes, axis=0)
    lines.append(["mean of rows / worst", *(f"{m:.3f} / {w:.2f}" for m, w in zip(np.mean(means, axis=0), np.min(worst, axis=0)))])
    lines.append(["least row", *(f"{m:.3f}" for m in np.min(means, axis=0))])
    lines.append(["passes forward, back", *(f"{forward:.0f}, {back:.0f}" for forward, back in passes[:-1])])
    table(["model norm eps", *ATTACKS], lines)
    print(f"the reference: {passes[-1][0]:.0f} forward, {passes[-1][1]:.0f} back")


if __name__ == "__main__":
    main()
