"""One peer of gpu.py in a process of its own; models and images are those of peer.py.

    python gpu_peer.py prepare IMAGES FOLDER DEVICE MATRICES
    python gpu_peer.py PEER WORK BATCH STEPS FOLDER DEVICE      WORK: spectrum | eigen | pgd | ceilings

A peer answers with one JSON line {"result": FILE.npy or null, "note": text}, then with {"seconds": [numbers]} for each line
`N SECONDS` on its input: N repetitions, or as many as begin within that time, at least one. The clock: CUDA events where the library has them (PyTorch, CuPy), else (JAX, pullback) the host's around a
device that was waited for, which can only be longer.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from peer import jax_model, load_images, prepare, torch_model

LATENT = 32
EPSILON = 1.0
# Images a pass, of which each peer takes its fastest that fits the memory.
CHUNKS = (500, 2500, 10000)


# --- clocks -----------------------------------------------------------------------------------------------------------


def host_clock(run, wait=lambda: None):
    def once():
        wait()
        start = time.perf_counter()
        run()
        wait()
        return time.perf_counter() - start

    return once


def event_clock(run, event, milliseconds, wait):
    def once():
        start, end = event(), event()
        wait()
        start.record()
        run()
        end.record()
        end.synchronize()
        return milliseconds(start, end) / 1e3

    return once


def torch_clock(run, device):
    import torch

    if device == "cpu":
        return host_clock(run)
    return event_clock(run, lambda: torch.cuda.Event(enable_timing=True), lambda a, b: a.elapsed_time(b),
                       torch.cuda.synchronize)


def fastest_chunk(pass_of, count, clock, failures):
    """(chunk, run) of the fastest of CHUNKS; `pass_of(chunk)` gives run() over all images."""
    best = None
    for chunk in sorted({min(chunk, count) for chunk in CHUNKS}):
        try:
            run = pass_of(chunk)
            run(), run()
            seconds = clock(run)()
        except failures as error:
            if "memory" not in str(error).lower() and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            continue
        if best is None or seconds < best[0]:
            best = seconds, chunk, run
    if best is None:
        raise MemoryError(f"no pass of {CHUNKS} images fits the memory")
    return best[1:]


# --- images to eigenvalues of the stochastic metric -------------------------------------------------------------------


def spectrum_torch(images, device, compiled):
    import torch
    from torch.func import jacrev, vmap

    model, x = torch_model("conv", LATENT).to(device), torch.from_numpy(images).to(device)

    def both(image):
        mean, log_var = model.encode(image[None])
        return torch.cat([mean[0], torch.exp(0.5 * log_var[0])])

    def gram(part):
        factor = vmap(jacrev(both))(part).flatten(2)
        return factor @ factor.mT

    # The eigenvalues stay outside: the compiler has nothing to fuse in them.
    gram = torch.compile(gram, mode="reduce-overhead" if device != "cpu" else "default") if compiled else gram

    def pass_of(chunk):
        def run():
            return torch.cat([torch.linalg.eigvalsh(gram(part)) for part in x.split(chunk)]).flip(-1)

        return run

    # By the factors alone: torch takes eigenproblems one at a time, whatever the chunk, for many seconds.
    def factors(chunk):
        def run():
            for part in x.split(chunk):
                gram(part)

        return run

    chunk, _ = fastest_chunk(factors, len(x), lambda run: torch_clock(run, device), RuntimeError)
    run = pass_of(chunk)
    return run().cpu().numpy(), torch_clock(run, device), f"{chunk} images a pass"


def spectrum_jax(images, folder):
    import jax
    import jax.numpy as jnp
    import numpy as np

    # TF32 off, as with the others.
    jax.config.update("jax_default_matmul_precision", "highest")
    encode, _ = jax_model("conv", folder)
    x = jnp.asarray(images)
    rows = lambda image: jnp.concatenate(encode(image))

    @jax.jit
    def spectra(part):
        factor = jax.vmap(jax.jacrev(rows))(part).reshape(len(part), -1, 784)
        return jnp.linalg.eigvalsh(factor @ factor.swapaxes(1, 2))[:, ::-1]

    def pass_of(chunk):
        parts = [x[i : i + chunk] for i in range(0, len(x), chunk)]
        return lambda: jax.block_until_ready([spectra(part) for part in parts])

    chunk, run = fastest_chunk(pass_of, len(x), host_clock, RuntimeError)
    return np.concatenate([np.asarray(part) for part in run()]), host_clock(run), f"{chunk} images a pass"


# --- ready Gram matrices in double to eigenvalues (eigh: and all vectors) ---------------------------------------------


def grams(images, device):
    """[N, 2L, 2L] f64 on the host: the same matrices for all."""
    import torch
    from torch.func import jacrev, vmap

    model = torch_model("conv", LATENT).to(device)

    def both(image):
        mean, log_var = model.encode(image[None])
        return torch.cat([mean[0], torch.exp(0.5 * log_var[0])])

    parts = []
    for part in torch.from_numpy(images).split(500):
        factor = vmap(jacrev(both))(part.to(device)).flatten(2).double()
        parts.append((factor @ factor.mT).cpu())
    return torch.cat(parts)


def eigen_torch(matrices, device, vectors):
    import torch

    a = torch.from_numpy(matrices).to(device)
    run = (lambda: torch.linalg.eigh(a)[0]) if vectors else (lambda: torch.linalg.eigvalsh(a))
    return run().flip(-1).cpu().numpy(), torch_clock(run, device), "double"


def eigen_cupy(matrices, vectors):
    import cupy

    a = cupy.asarray(matrices)
    run = (lambda: cupy.linalg.eigh(a)[0]) if vectors else (lambda: cupy.linalg.eigvalsh(a))
    clock = event_clock(run, cupy.cuda.Event, cupy.cuda.get_elapsed_time, cupy.cuda.runtime.deviceSynchronize)
    return cupy.asnumpy(run())[:, ::-1], clock, "double"


def eigen_jax(matrices):
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    a, values = jnp.asarray(matrices), jax.jit(jnp.linalg.eigvalsh)
    run = lambda: values(a).block_until_ready()
    return np.asarray(run())[:, ::-1], host_clock(run), "double"


# --- PGD in L2 on |mu(x') - mu(x)|: pullback's algorithm (attack/pgd.rs), start on the sphere, held pixels left out -----


def pgd_torch(images, steps, device, compiled):
    import torch

    model, x0 = torch_model("conv", LATENT).to(device), torch.from_numpy(images).to(device)
    length = 2.5 / steps * EPSILON
    norm = lambda t: t.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    def project(x, x0):
        d = x - x0
        return (x0 + d * (EPSILON / norm(d).clamp_min(1e-12)).clamp_max(1)).clamp(0, 1)

    def move(x, g, x0):
        held = ((x <= 0) & (g < 0)) | ((x >= 1) & (g > 0))
        g = torch.where(held, torch.zeros_like(g), g)
        return project(x + length * g / norm(g).clamp_min(1e-12), x0)

    def distance(x, clean):
        return (model.encode(x)[0] - clean).square().sum(1).sqrt().sum()

    def eager(x, x0, clean):
        x = x.detach().requires_grad_(True)
        (g,) = torch.autograd.grad(distance(x, clean), x)
        return move(x.detach(), g, x0)

    def functional(x, x0, clean):
        return move(x, torch.func.grad(distance)(x, clean), x0)

    mode = "reduce-overhead" if device != "cpu" else "default"
    step = torch.compile(functional, mode=mode) if compiled else eager
    clean = model.encode(x0)[0]
    noise = torch.Generator(device).manual_seed(0)

    def run():
        d = torch.randn(x0.shape, generator=noise, device=device)
        x = project(x0 + EPSILON * d / norm(d), x0)
        for _ in range(steps):
            if compiled and device != "cpu":
                torch.compiler.cudagraph_mark_step_begin()
                x = x.clone()  # a graph's output is the next replay's memory
            x = step(x, x0, clean)
        return x

    run()
    return run().detach().cpu().numpy(), torch_clock(run, device), ""


def pgd_jax(images, steps, folder):
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_default_matmul_precision", "highest")
    encode, _ = jax_model("conv", folder)
    x0 = jnp.asarray(images)
    length = 2.5 / steps * EPSILON
    norm = lambda t: jnp.sqrt((t**2).sum((1, 2, 3), keepdims=True))
    mean = jax.vmap(lambda image: encode(image)[0])

    def project(x, x0):
        d = x - x0
        return jnp.clip(x0 + d * jnp.minimum(EPSILON / jnp.maximum(norm(d), 1e-12), 1), 0, 1)

    @jax.jit
    def attack(x0, clean, key):
        distance = lambda x: jnp.sqrt(((mean(x) - clean) ** 2).sum(1)).sum()

        def step(_, x):
            g = jax.grad(distance)(x)
            g = jnp.where(((x <= 0) & (g < 0)) | ((x >= 1) & (g > 0)), 0, g)
            return project(x + length * g / jnp.maximum(norm(g), 1e-12), x0)

        d = jax.random.normal(key, x0.shape)
        return jax.lax.fori_loop(0, steps, step, project(x0 + EPSILON * d / norm(d), x0))

    clean, key = jax.jit(mean)(x0), jax.random.key(0)
    run = lambda: attack(x0, clean, key).block_until_ready()
    return np.asarray(run()), host_clock(run), ""


# --- what the device can do -------------------------------------------------------------------------------------------


def ceilings(device, work):
    """Floating-point operations of a GEMM in single precision (TF32 off), or bytes of a copy, a repetition."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    n = 8192 if device != "cpu" else 512
    if work == "gemm":
        a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
        out, run = torch.empty_like(a), lambda: torch.mm(a, b, out=out)
        amount = 2.0 * n**3
    else:
        a = torch.randn(n * n * 4, device=device)
        out = torch.empty_like(a)
        run, amount = lambda: out.copy_(a), 2.0 * a.nbytes
    for _ in range(5):
        run()
    return None, torch_clock(run, device), str(amount)


# --- pullback through its binary: `score` and `attack` for the check, `bench` for the clock ----------------------------


def pullback(work, batch, steps, folder, device):
    import h5py

    binary = os.environ["PULLBACK"]
    common = ["--model", folder / "conv.pt", "--data", folder / "images.h5", "--limit", str(batch), "--device", device]
    result = folder / f"pullback-{work}-{batch}.h5"
    if work == "pgd":
        extra = ["attack", "--attack", "pgd", "--eps", str(EPSILON), "--steps", str(steps), "--save-images"]
    else:
        extra = ["score", "--metric", "stochastic"]
    subprocess.run([binary, *extra, "-q", "--force", *common, "-o", result], check=True)
    with h5py.File(result) as f:
        found = f["attack/pgd/images"][0] if work == "pgd" else f["spectrum/eigenvalues"][...]

    def several(count, _):
        command = [binary, "bench", "-q", *common, "--metric", "stochastic", "--repeat", str(count), "--json"]
        works = {"pgd": ["search", "pgd"], "eigen": ["eigen"], "spectrum": ["spectrum", "jacobian"]}[work]
        command += [word for name in works for word in ("--work", name)] + ["--steps", str(steps)]
        timings = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["timings"]
        return {t["work"]: t["seconds"] for t in timings}, "; ".join(f"{t['work']}: {t['pass']}" for t in timings)

    return found, several, ""


# --- a process --------------------------------------------------------------------------------------------------------


def made(peer, work, batch, steps, folder, device):
    import numpy as np

    if work == "ceilings":
        return ceilings(device, peer)
    if peer != "jax" and peer != "cupy":
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if work == "eigen":
        matrices = np.load(folder / "grams.npy")
        return {
            "torch.eigh": lambda: eigen_torch(matrices, device, True),
            "torch.eigvalsh": lambda: eigen_torch(matrices, device, False),
            "cupy.eigh": lambda: eigen_cupy(matrices, True),
            "cupy.eigvalsh": lambda: eigen_cupy(matrices, False),
            "jax": lambda: eigen_jax(matrices),
        }[peer]()
    images = load_images(folder, batch)
    if work == "spectrum":
        return spectrum_jax(images, folder) if peer == "jax" else spectrum_torch(images, device, peer == "torch.compile")
    return pgd_jax(images, steps, folder) if peer == "jax" else pgd_torch(images, steps, device, peer == "torch.compile")


def repeated(once, count, until):
    seconds = [once()]
    while len(seconds) < count and time.perf_counter() < until:
        seconds.append(once())
    return seconds


def main():
    import numpy as np

    if sys.argv[1] == "prepare":
        count, folder, device = int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
        prepare(folder, ("conv",), LATENT, max(count, 1))
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        if int(sys.argv[5]):
            np.save(folder / "grams.npy", grams(load_images(folder, int(sys.argv[5])), device).numpy())
        return
    peer, work, batch, steps, folder, device = sys.argv[1:]
    batch, steps, folder = int(batch), int(steps), Path(folder)
    if peer == "pullback":
        result, several, note = pullback(work, batch, steps, folder, device)
    else:
        result, once, note = made(peer, work, batch, steps, folder, device)
        several = lambda count, until: (repeated(once, count, until), note)
    file = None
    if result is not None:
        file = str(folder / f"{peer}-{work}-{batch}.npy")
        np.save(file, np.asarray(result, np.float64))
    print(json.dumps({"result": file, "note": note}), flush=True)
    for line in sys.stdin:
        count, limit = line.split()
        seconds, note = several(int(count), time.perf_counter() + float(limit))
        print(json.dumps({"seconds": seconds, "note": note}), flush=True)


if __name__ == "__main__":
    main()
