"""Result files (format 1, and a sweep of both formats) with made-up but lifelike numbers, written with h5py alone, for tests/report.rs.

    python report_fixture.py FOLDER

run/: two models with scores, attacks and images, and their history.csv; bare/: an attack file without images; sweep/: a
grid of beta whose images lie under /pictures; sweep2/: the same in format 2; five/ and twelve/: models by three metrics, each with one attack file;
paths/: one model under two paths, and two of one name; twice/: a model scored on fewer images and in double as well,
attacked along the directions of two metrics; again/: a model trained anew under its path; sets/: one on two data sets;
special/: scores of which some gradients are masked, and an attack on samples that are no pictures.
"""

import hashlib
import pathlib
import sys

import h5py
import numpy as np

N, R, K, SIDE = 60, 8, 3, 12
EPS = np.array([0.25, 1.0, 4.0])
rng = np.random.default_rng(7)


def attributes(file, kind, model, config, weights=None, metric="stochastic", precision="f32"):
    file.attrs.update(
        pullback_format=1, kind=kind, version="0.1.0", config=config, model=model,
        model_sha256=hashlib.sha256((weights or model).encode()).hexdigest(), dataset="strokes", split="test", device="cpu",
        precision=precision, seed=3, libtorch="2.11.0", metric=metric)


def spectra(rows, height):
    decay = np.exp(-np.arange(R) / 1.5)
    return np.sort(height * decay * rng.lognormal(0, 0.4, (rows, R)), axis=1)[:, ::-1]


def scores(values):
    p = values / values.sum(1, keepdims=True)
    entropy = -(p * np.log(p)).sum(1)
    columns = {
        "spectral_radius": values[:, 0], "trace": values.sum(1), "von_neumann_entropy": entropy,
        "effective_rank": np.exp(entropy), "anisotropy": p[:, 0].copy(), "stable_rank": 1 / p[:, 0],
        "rank": np.full(len(values), float(R)), "log_det": np.log(values).sum(1),
        "condition": values[:, 0] / values[:, -1]}
    # Collapsed samples have no ratios.
    columns["anisotropy"][:4] = np.nan
    return columns


def measures(radius, eps, strength):
    spread = rng.lognormal(0, 0.1, len(radius))
    shift = strength * np.sqrt(radius) * eps / (1 + 0.1 * eps) * spread
    return {
        "input_l2": np.full(len(radius), eps), "latent_l2": 0.95 * shift, "latent_w2": shift, "latent_kl": shift**2 / 2,
        "recon_shift": 0.01 * shift**2, "recon_mse": 0.03 + 0.01 * shift**2}


def pictures(*lead):
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    centre = rng.uniform(-0.2, 0.2, (*lead, 2, 1, 1))
    blob = np.exp(-((x - centre[..., 0, :, :]) ** 2 + (y - centre[..., 1, :, :]) ** 2) / 0.03)
    return blob[..., None, :, :].astype(np.float32)


def attack(file, radius, images):
    file["index"], file["label"], file["eps"] = np.arange(N), np.arange(N) % 10, EPS
    file["clean/recon_mse"] = rng.uniform(0.02, 0.04, N)
    if images:
        file["clean/images"], file["clean/recon"] = pictures(N), pictures(N)
    for name, strength in (("spectral", 1.0), ("random", 0.3), ("pgd", 1.05)):
        made = [measures(radius, e, strength) for e in EPS]
        for measure in made[0]:
            file[f"attack/{name}/{measure}"] = np.stack([m[measure] for m in made])
        if images:
            file[f"attack/{name}/images"], file[f"attack/{name}/recon"] = pictures(3, N), pictures(3, N)


def run(folder):
    for name, height in (("plain", 4.0), ("mixup", 2.0)):
        (folder / name).mkdir(parents=True)
        values = spectra(N, height)
        with h5py.File(folder / name / "scores.h5", "w") as file:
            attributes(file, "scores", f"runs/{name}", "metric: stochastic\n")
            file["index"], file["label"] = np.arange(N), np.arange(N) % 10
            file["spectrum/eigenvalues"] = values
            file["spectrum/directions"] = pictures(N, K) - np.float32(0.3)
            for score, column in scores(values).items():
                file[f"scores/{score}"] = column
            if name == "mixup":
                file["scores_se/trace"], file["scores_se/spectral_radius"] = np.full(N, 0.25), np.zeros(N)
        with h5py.File(folder / name / "attack.h5", "w") as file:
            attributes(file, "attack", f"runs/{name}", "attack:\n  norm: l2\n")
            attack(file, values[:, 0], True)
        lines = ["epoch,loss,kl"] + [f"{e},{100 / (e + 1):.4f},{5 + e:.4f}" for e in range(6)]
        (folder / name / "history.csv").write_text("\n".join(lines) + "\n")


def sweep(path):
    """Five betas without and with mixup, two seeds of the middle one, and a second set of attacks."""
    grid = [(beta, mixup, 0) for mixup in (0.0, 1.0) for beta in np.logspace(-2, 1, 5)]
    grid += [(grid[2][0], 0.0, 1), (grid[2][0], 1.0, 1)]
    betas, mixups, seeds = map(np.array, zip(*grid))
    points, kept = len(betas), 4
    values = np.stack([spectra(N, 4 / (1 + b)) for b in betas])
    with h5py.File(path, "w") as file:
        config = "attack:\n  norm: l2\nfurther:\n  unit:\n    attacks: [{kind: spectral, scale: unit}]\n    norm: l2\n"
        attributes(file, "sweep", "12 models", config)
        file.attrs.update(norm="l2", scale="singular")
        file["index"], file["eps"], file["beta"] = np.arange(N), EPS, betas
        file["mixup"], file["mixup_strength"], file["seed"] = (mixups > 0).astype(np.uint8), mixups, seeds
        file["spectrum/eigenvalues"] = values
        for score in scores(values[0]):
            file[f"scores/{score}"] = np.stack([scores(v)[score] for v in values])
        file["scores/singular.entropy_maxnorm"] = np.stack([scores(np.sqrt(v))["von_neumann_entropy"] for v in values])
        file["scores/output.spectral_radius"] = 0.5 * values[:, :, 0]
        file["clean/recon_mse"] = 0.02 + 0.01 * np.log1p(betas)[:, None] + rng.uniform(0, 0.01, (points, N))
        strengths = {f"u{k}": 1 / k for k in range(1, 6)} | {"random": 0.15, "unit-u1": 1.0, "unit-pgd": 1.1}
        for name, strength in strengths.items():
            made = [[measures(v[:, 0], e, strength) for e in EPS] for v in values]
            for measure in made[0][0]:
                file[f"attack/{name}/{measure}"] = np.array([[m[measure] for m in row] for row in made])
        file["pictures/index"] = np.arange(kept)
        file["pictures/clean/images"] = pictures(kept)
        file["pictures/clean/recon"] = pictures(points, kept)
        file["pictures/attack/u1/images"] = pictures(points, 3, kept)
        file["pictures/attack/u1/recon"] = pictures(points, 3, kept)
        file["pictures/spectrum/directions"] = pictures(points, kept, K) - np.float32(0.3)
        for group in ("all", "plain", "mixup"):
            for pair in ("beta.spectral_radius", "beta.unit-u1.recon_mse", "spectral_radius.u1.recon_mse"):
                file[f"correlation/{group}.{pair}"] = np.array([-0.9, -0.97, -0.8])
                file[f"kendall/{group}.{pair}"] = np.array([-0.7, -0.8, -0.6])
        file["effect/spectral_radius"] = np.array([-0.4, -0.6, -0.1])
        file["effect/unit-u1.recon_mse"] = np.array([0.01, -0.01, 0.02])
        file["training/loss"], file["training/kl"] = 700 + 5 * betas, 20 / (1 + betas)
        rho = rng.uniform(0.5, 0.7, points)
        file["within/spectral_radius.u1.recon_mse"] = np.stack([rho, rho - 0.1, rho + 0.1], axis=1)
        file["kendall_within/spectral_radius.u1.recon_mse"] = np.stack([rho - 0.2, rho - 0.3, rho], axis=1)


def renewed(path):
    """A sweep of format 1 as format 2 has it, where one direction by itself is called spectral."""
    damage = {"u1.recon_mse": "attack/u1/recon_mse", "unit-u1.recon_mse": "further/unit/attack/spectral/recon_mse",
              "spectral_radius": "scores/spectral_radius"}
    with h5py.File(path, "a") as file:
        file.attrs.update(pullback_format=2, config="{}\n")
        file.attrs.update({"further.unit.norm": "l2", "further.unit.scale": "unit"})
        for old, new in (("unit-u1", "spectral"), ("unit-pgd", "pgd")):
            file.move(f"attack/{old}", f"further/unit/attack/{new}")
        for group in ("correlation", "kendall", "effect", "within", "kendall_within"):
            for name in list(file[group]):
                models, of, rest = "", "", name
                if group in ("correlation", "kendall"):
                    models, rest = rest.split(".", 1)
                if group != "effect":
                    of, rest = rest.split(".", 1)
                file.move(f"{group}/{name}", "/".join(part for part in (group, models, of, damage[rest]) if part))


def scored(path, model, height, metric="stochastic", weights=None, precision="f32", rows=N):
    """A file of scores without pictures; its eigenvalues."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = spectra(rows, height)
    with h5py.File(path, "w") as file:
        attributes(file, "scores", model, f"metric: {metric}\n", weights, metric, precision)
        file["index"], file["spectrum/eigenvalues"] = np.arange(rows), values
        for score, column in scores(values).items():
            file[f"scores/{score}"] = column
    return values


def attacked(path, model, radius, weights=None, metric="stochastic"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        attributes(file, "attack", model, "attack:\n  norm: l2\n", weights, metric)
        attack(file, radius, False)


def models(folder, count):
    """Models of growing sensitivity by three metrics, each with one attack file."""
    for i in range(count):
        height = 2.0 * 1.5**i
        for metric, times in (("fisher", 30), ("mean", 1), ("stochastic", 1.2)):
            values = scored(folder / f"m{i}-{metric}.h5", f"published/m{i}.pt", times * height, metric)
        attacked(folder / f"m{i}-attack.h5", f"published/m{i}.pt", values[:, 0])


root = pathlib.Path(sys.argv[1])
models(root / "five", 5)
models(root / "twelve", 12)
for path, model, weights in (("one", "runs/a/vae.pt", "first"), ("again", "/home/me/copy.pt", "first"), ("other", "runs/b/vae.pt", "second")):
    radius = scored(root / f"paths/{path}-scores.h5", model, 3.0, "mean" if path == "again" else "stochastic", weights)[:, 0]
    if path != "again":
        attacked(root / f"paths/{path}-attack.h5", model, radius, weights)
for weights in ("first", "second"):
    scored(root / f"again/{weights}.h5", "runs/a/vae.pt", 3.0, weights=weights)
for data in ("strokes", "data/digits"):
    scored(root / f"sets/{data[-3:]}.h5", "vae.pt", 3.0)
    with h5py.File(root / f"sets/{data[-3:]}.h5", "a") as file:
        file.attrs["dataset"] = data
scored(root / "special/scores.h5", "vae.pt", 3.0)
with h5py.File(root / "special/scores.h5", "a") as file:
    file["flags/masked"] = (np.arange(N) < 7).astype(np.uint8)
    file["spectrum/eigenvalues"][:7] = 0
    file["scores/spectral_radius"][:7] = 0
with h5py.File(root / "special/attack.h5", "w") as file:
    attributes(file, "attack", "vae.pt", "attack:\n  norm: l2\n")
    file.attrs["pictures"] = "no"
    attack(file, np.linspace(1, 5, N), True)
scored(root / "twice/a.h5", "vae.pt", 3.0)
scored(root / "twice/b.h5", "vae.pt", 3.0, rows=40)
scored(root / "twice/c.h5", "vae.pt", 3.0, precision="f64")
for metric in ("stochastic", "fisher"):
    attacked(root / f"twice/{metric}-attack.h5", "vae.pt", np.linspace(1, 5, N), metric=metric)
(root / "twice/copy.h5").write_bytes((root / "twice/a.h5").read_bytes())
run(root / "run")
(root / "bare").mkdir()
with h5py.File(root / "bare" / "attack.h5", "w") as bare:
    attributes(bare, "attack", "runs/plain", "norm: l2\n")
    attack(bare, np.linspace(1, 5, N), False)
(root / "sweep").mkdir()
sweep(root / "sweep" / "sweep.h5")
(root / "sweep2").mkdir()
(root / "sweep2" / "sweep.h5").write_bytes((root / "sweep" / "sweep.h5").read_bytes())
renewed(root / "sweep2" / "sweep.h5")
