"""Makes the golden cases: tests/golden/cases/<name>/{vae.pt, inputs.h5, expected.h5}.

    python tests/golden/make.py            (needs torch, numpy, h5py)

vae.pt      TorchScript, f32.
inputs.h5   /images f32 [N,C,H,W] in [0, 1].
expected.h5 reference values in float64, from the eager model with its weights upcast; per metric a group with
            eigenvalues [N,R], scores/<name> [N], top_direction [N,C,H,W], gap_per_sample [N] = (l_1 - l_2) / l_1.

The reference shares no step with `pullback`: Jacobians row by row (torch.autograd.functional.jacobian) of mu, sigma,
logvar and of the whole x -> x_hat map, each differentiated as a function of its own; eigenvalues by LAPACK's SVD of
the tall stacked matrix; and before anything is written they must agree with eigh of the dense D x D metric of the
formula, and with the same in float32 (which shows that no ReLU or clamp sits on its kink). Two runs write the same bytes.
"""

import math
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from models import CASES, images
from torch.nn.attention import SDPBackend, sdpa_kernel

RANK_CUT = 1e-10
NOTE = "float32 weights and inputs upcast to float64; first R eigenvalues of the D x D metric, descending; NaN: 0/0"


def jacobian(f, x):
    """[outputs, D] of f at one image x [1,C,H,W]."""
    j = torch.autograd.functional.jacobian(f, x)
    return j.reshape(-1, x.numel()).numpy()


def latent_jacobian(model, z):
    """J_g [O, L] of the decoder mean."""
    return torch.autograd.functional.jacobian(model.decode, z).reshape(-1, z.numel()).numpy()


def metrics(model, x):
    """name -> (stacked factor, dense G by the formula) at one image."""
    with torch.no_grad():
        mu, logvar = (t[0].numpy() for t in model.encode(x))
    sigma = np.exp(logvar / 2)
    j_mu = jacobian(lambda t: model.encode(t)[0], x)
    j_sigma = jacobian(lambda t: torch.exp(model.encode(t)[1] / 2), x)
    j_logvar = jacobian(lambda t: model.encode(t)[1], x)
    j_whole = jacobian(lambda t: model.decode(model.encode(t)[0]), x)
    j_g = latent_jacobian(model, torch.from_numpy(mu)[None])
    m = j_g.T @ j_g
    d = np.sqrt(np.diag(m))
    return {
        "mean": (j_mu, j_mu.T @ j_mu),
        "stochastic": (np.vstack([j_mu, j_sigma]), j_mu.T @ j_mu + j_sigma.T @ j_sigma),
        "fisher": (
            np.vstack([j_mu / sigma[:, None], j_logvar / math.sqrt(2)]),
            j_mu.T @ np.diag(sigma**-2.0) @ j_mu + 0.5 * j_logvar.T @ j_logvar,
        ),
        "output": (j_whole, j_mu.T @ m @ j_mu),
        "output-stochastic": (
            np.vstack([j_whole, d[:, None] * j_sigma]),
            j_mu.T @ m @ j_mu + j_sigma.T @ np.diag(np.diag(m)) @ j_sigma,
        ),
    }


def spectrum(factor, rows):
    """First `rows` eigenvalues of factor^T factor, and the unit top direction with its largest entry positive."""
    _, s, vt = np.linalg.svd(factor, full_matrices=False)
    values = np.zeros(rows)
    values[: min(rows, len(s))] = s[:rows] ** 2
    v = vt[0] * np.sign(vt[0][np.argmax(np.abs(vt[0]))])
    return values, v if values[0] > 0 else np.zeros_like(v)


def scores(lam):
    """The ten scores of one sample."""
    l1, total = lam[0], lam.sum()
    if l1 == 0:
        nan = math.nan
        return dict(spectral_radius=0, trace=0, von_neumann_entropy=0, entropy_maxnorm=nan, rank=0, log_det=0,
                    effective_rank=1, anisotropy=nan, stable_rank=nan, condition=nan)
    p, s = lam / total, lam / l1
    entropy = -sum(q * math.log(q) for q in p if q > 0)
    counted = lam[lam > RANK_CUT * l1]
    return dict(
        spectral_radius=l1,
        trace=total,
        von_neumann_entropy=entropy,
        entropy_maxnorm=-np.sum(s * np.log(s + 1e-10)),
        rank=len(counted),
        log_det=np.sum(np.log(counted)),
        effective_rank=math.exp(entropy),
        anisotropy=l1 / total,
        stable_rank=total / l1,
        condition=l1 / counted[-1],
    )


def agree(what, got, want, l1, tolerance):
    """Fails unless |got - want| <= tolerance * l1 everywhere (NaN fails)."""
    worst = np.max(np.abs(got - want)) / l1 if l1 > 0 else np.max(np.abs(got - want))
    if not worst <= tolerance:
        sys.exit(f"{what}: differs by {worst:.1e} of lambda_1, expected <= {tolerance:.0e}")
    return worst


def save_model(model, path):
    """TorchScript without its debug records: those hold this machine's paths and are a third of the file."""
    scratch = path.with_suffix(".full")
    torch.jit.script(model.float().eval()).save(str(scratch))
    reader = torch._C.PyTorchFileReader(str(scratch))
    writer = torch._C.PyTorchFileWriter(str(path))
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in (".data/serialization_id", "version", "byteorder"):
            data = reader.get_record(name)
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    scratch.unlink()


def make(name, folder):
    build, shape, count = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    model = build(shape).eval()
    x = images(shape, count)
    folder.mkdir(parents=True)
    save_model(model, folder / "vae.pt")
    with h5py.File(folder / "inputs.h5", "w", libver="latest") as f:
        f.create_dataset("images", data=x.numpy(), track_times=False)

    single = [metrics(model, x[n : n + 1]) for n in range(count)]
    model = model.double()
    double = [metrics(model, x[n : n + 1].double()) for n in range(count)]
    with torch.no_grad():
        mu, logvar = model.encode(x.double())
        reconstruction = model.decode(mu)
    size, latent = x[0].numel(), mu.shape[1]

    worst = 0.0
    with h5py.File(folder / "expected.h5", "w", libver="latest") as f:
        c, h, w = shape
        f.attrs.update(C=c, H=h, W=w, D=size, L=latent, N=count, rank_cut=RANK_CUT, note=NOTE)
        f.attrs.update(torch=str(torch.__version__), numpy=np.__version__)
        put = lambda g, key, data: g.create_dataset(key, data=np.asarray(data, np.float64), track_times=False)
        put(f, "mu", mu)
        put(f, "logvar", logvar.detach())
        put(f, "reconstruction", reconstruction)
        for metric in double[0]:
            rows = min(latent * (2 if metric in ("stochastic", "fisher", "output-stochastic") else 1), size)
            values, tops, columns, gaps = [], [], [], []
            for n in range(count):
                factor, dense = double[n][metric]
                lam, v = spectrum(factor, rows)
                what = f"{name} {metric} sample {n}"
                agree(what, np.linalg.eigvalsh(dense)[::-1][:rows], lam, lam[0], 1e-10)
                worst = max(worst, agree(what + " in f32", spectrum(single[n][metric][0], rows)[0], lam, lam[0], 5e-5))
                ratio = lam / lam[0] if lam[0] > 0 else lam
                if ((ratio > RANK_CUT / 10) & (ratio < RANK_CUT * 10)).any():
                    sys.exit(f"{what}: an eigenvalue lies near the rank cut")
                values.append(lam)
                tops.append(v.reshape(shape))
                columns.append(scores(lam))
                second = lam[1] if len(lam) > 1 else 0.0
                gaps.append((lam[0] - second) / lam[0] if lam[0] > 0 else 0.0)
            g = f.create_group(metric)
            put(g, "eigenvalues", values)
            put(g, "top_direction", tops)
            put(g, "gap_per_sample", gaps)
            for key in columns[0]:
                put(g, f"scores/{key}", [column[key] for column in columns])
            values = np.array(values)
            smallest = [r[-1] / r[0] if r[0] > 0 else 0.0 for r in values]
            g.attrs.update(R=rows, gap=min(gaps), min_ratio=min(smallest))
    kib = sum(p.stat().st_size for p in folder.iterdir()) / 1024
    print(f"{name:20s} D {size:4d} L {latent:3d} N {count}  float32 off by {worst:.0e} of lambda_1  {kib:4.0f} KiB")


def main():
    cases = Path(__file__).resolve().parent / "cases"
    torch.set_num_threads(1)
    with sdpa_kernel(SDPBackend.MATH):
        for name in CASES:
            shutil.rmtree(cases / name, ignore_errors=True)
            make(name, cases / name)


if __name__ == "__main__":
    # TorchScript writes a module's constants in the order of a hashed set: the same seed, the same bytes.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    main()
