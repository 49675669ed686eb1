"""One peer in a process of its own: the spectra of B images, or attacks on them, by somebody's way of doing it. peers.py
starts these.

    python peer.py prepare FOLDER                       writes the models and images that all peers share
    python peer.py PEER MODEL METRIC BATCH FOLDER       PEER: authors | loop | loop-nhwc | torch.func | jax | gemm
                                                              | pullback | pullback-traced | pullback-trained
                                                        METRIC: mean | stochastic | output, or pgd, an attack

A peer answers with one JSON line a step: first {"eigenvalues": FILE, "baseline": bytes}, where baseline is the process's
largest resident size after imports and loading (of an attack the file holds the damage, |mu(x') - mu(x)|, [B, 1]); then, for each line `N` on its input, {"seconds": [N numbers],
"peak": bytes}. A repetition is one pass from images in memory to eigenvalues in memory.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

LATENT = 20
# Pixels of a side of each network's images. burgess: figure 8 of arXiv 1804.03599 (L = 10); pythae: the convolutional
# encoder for MNIST of pythae (Chadebec et al. 2022, L = 16), its decoder a single layer here, since no metric asks it;
# mnist-conv: of configs/mnist-conv.yaml (L = 32).
SIDES = {"mlp": 28, "conv": 28, "mnist-conv": 28, "burgess32": 32, "burgess64": 64, "pythae": 28}
# Those that `pullback train` makes, by its settings.
TRAINED = {
    "mlp": {"kind": "mlp", "hidden": [512, 512], "latent": LATENT},
    "mnist-conv": {"kind": "conv", "channels": [32, 64], "hidden": 256, "latent": 32},
}
LARGEST_BATCH = 2048
# Untimed work of a peer before its clock starts, in seconds and passes: as much as `pullback bench` gives itself.
WARM, WARM_UP = 0.3, 40


def resident_peak():
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


# --- what all peers share ---------------------------------------------------------------------------------------------


def torch_model(name, latent=LATENT):
    """The encoder and decoder of a network of SIDES with fixed weights, as an eager module."""
    import torch
    from torch import Tensor, nn
    from typing import Tuple

    class Vae(nn.Module):
        def __init__(self, body, width, decoder):
            super().__init__()
            self.body, self.decoder = body, decoder
            latent = decoder[0].in_features
            self.mu, self.logvar = nn.Linear(width, latent), nn.Linear(width, latent)

        @torch.jit.export
        def encode(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            h = self.body(x)
            return self.mu(h), self.logvar(h)

        @torch.jit.export
        def decode(self, z: Tensor) -> Tensor:
            return self.decoder(z)

        def forward(self, x: Tensor) -> Tensor:
            return self.decode(self.encode(x)[0])

    torch.manual_seed(0)
    if name == "mlp":
        body = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
        decoder = nn.Sequential(nn.Linear(latent, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                                nn.Linear(512, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
        model = Vae(body, 512, decoder)
    elif name.startswith("burgess"):
        side, latent = SIDES[name], 10
        maps = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU()]
        for _ in range(3 if side == 64 else 2):
            maps += [nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU()]
        body = nn.Sequential(*maps, nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        model = Vae(body, 256, nn.Sequential(nn.Linear(latent, side * side), nn.Sigmoid(), nn.Unflatten(1, (1, side, side))))
    elif name == "mnist-conv":
        latent = TRAINED[name]["latent"]
        body = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                             nn.Linear(3136, 256), nn.ReLU())
        decoder = nn.Sequential(nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
                                nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
                                nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid())
        model = Vae(body, 256, decoder)
    elif name == "pythae":
        latent, maps = 16, []
        for i, o in [(1, 128), (128, 256), (256, 512), (512, 1024)]:
            maps += [nn.Conv2d(i, o, 4, 2, 1), nn.BatchNorm2d(o), nn.ReLU()]
        model = Vae(nn.Sequential(*maps, nn.Flatten()), 1024, nn.Sequential(nn.Linear(latent, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))))
        for layer in model.body:
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_var, 0.2, 0.6)
    else:
        body = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Flatten())
        decoder = nn.Sequential(nn.Linear(latent, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
                                nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
                                nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid())
        model = Vae(body, 3136, decoder)
    return model.eval().requires_grad_(False)


def described(model, side):
    """The encoder's layers as (kind, name) for those who build it anew, and the multiplications of one image's pass through them."""
    import torch
    from torch import nn

    kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "relu", nn.Flatten: "flatten", nn.Linear: "dense"}
    x, layers, products = torch.zeros(1, 1, side, side), [], 0
    for index, layer in enumerate(model.body):
        layers.append((kinds[type(layer)], f"body.{index}"))
        x = layer(x)
        # Each output is a sum over as many products as a row of the weights has entries.
        products += x.numel() * layer.weight[0].numel() if isinstance(layer, (nn.Conv2d, nn.Linear)) else 0
    return {"layers": layers, "products": products, "latent": model.mu.out_features}


def traced(model, images):
    """The same as most people make TorchScript."""
    import torch

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.mu, self.logvar, self.decoder = model.body, model.mu, model.logvar, model.decoder

        def encode(self, x):
            h = self.body(x)
            return self.mu(h), self.logvar(h)

        def decode(self, z):
            return self.decoder(z)

    return torch.jit.trace_module(Plain().eval(), {"encode": images, "decode": torch.rand(len(images), model.mu.out_features)})


def as_trained(name, model, folder):
    """The folder of a run with these weights, as `pullback train` leaves it."""
    from safetensors.torch import save_file

    # Layers bear their place in the encoder, with or without a first layer that only flattens.
    first = min(int(key.split(".")[1]) for key in model.state_dict() if key.startswith("body."))
    weights = {}
    for key, weight in model.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "body":
            number, _, rest = rest.partition(".")
            rest = f"{int(number) - first}.{rest}"
        weights[f"{dict(body='encoder', mu='mean', logvar='log_var').get(part, part)}.{rest}"] = weight.contiguous()
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    # YAML's flow style is JSON.
    spec = {**TRAINED[name], "image": {"channels": 1, "height": SIDES[name], "width": SIDES[name]}}
    (folder / "config.yaml").write_text(f"model: {json.dumps(spec)}\n")


def prepare(folder, names=tuple(SIDES), latent=LATENT, count=LARGEST_BATCH, trained=()):
    import h5py
    import numpy as np
    import torch

    networks = {}
    for name in names:
        model = torch_model(name, latent)
        torch.jit.script(model).save(str(folder / f"{name}.pt"))
        traced(model, torch.rand(2, 1, SIDES[name], SIDES[name])).save(str(folder / f"{name}-traced.pt"))
        if name in trained:
            as_trained(name, model, folder / f"{name}-trained")
        np.savez(folder / f"{name}.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
        networks[name] = described(model, SIDES[name])
    (folder / "networks.json").write_text(json.dumps(networks))
    for side in sorted({SIDES[name] for name in names}):
        rng = np.random.default_rng(0)
        y, x = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
        images = np.zeros((count if side == 28 else min(count, 512), 1, side, side), np.float32)
        for image in images:
            for cy, cx, width in rng.uniform(0.1, 0.9, (4, 3)):
                image[0] += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.02 * width))
        with h5py.File(folder / images_file(side), "w") as f:
            f["images"] = np.clip(images, 0, 1)


def images_file(side):
    return "images.h5" if side == 28 else f"images{side}.h5"


def load_images(folder, name, batch):
    import h5py

    with h5py.File(folder / images_file(SIDES[name])) as f:
        return f["images"][:batch]


# --- the peers: each a function (model, metric, images [B,1,28,28] numpy, folder) -> run() -> eigenvalues -------------


def authors(name, metric, images, folder):
    """The way of the paper's authors (trainer.py of RobustnessVAE, in our words): a backward pass for each row with its
    graph kept, then on the CPU a full SVD of the D x rows Jacobian, or eigh of the D x D metric where it is stochastic.
    Their published lines do not run as they stand; this is what they say."""
    import torch

    model, x = torch_model(name), torch.from_numpy(images)

    def rows(outputs, inputs):
        ones = torch.ones(len(outputs))
        each = [torch.autograd.grad(outputs[:, i], inputs, ones, create_graph=True)[0] for i in range(outputs.shape[1])]
        return torch.stack(each, -1).detach().reshape(len(outputs), -1, outputs.shape[1])

    def run():
        inputs = x.clone().requires_grad_(True)
        mu, logvar = model.encode(inputs)
        if metric == "stochastic":
            j_mu, j_sigma = rows(mu, inputs), rows(torch.exp(0.5 * logvar), inputs)
            g = torch.einsum("bdn,bmn->bdm", j_mu, j_mu) + torch.einsum("bdn,bmn->bdm", j_sigma, j_sigma)
            values, _ = torch.linalg.eigh(g.cpu())
            return values.flip(-1)
        outputs = mu if metric == "mean" else model.decode(mu).flatten(1)
        _, s, _ = torch.linalg.svd(rows(outputs, inputs).cpu(), full_matrices=True)
        return s**2

    return run


# The attack: PGD in L2 within [0, 1], steps of 2.5 / STEPS of the size.
STEPS, EPSILON = 40, 1.0


def pgd(model, x):
    """PGD on |mu(x') - mu(x)| as PyTorch users write it: [B, 1] damage."""
    import torch

    lengths = lambda t: t.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)

    def run():
        with torch.no_grad():
            clean = model.encode(x)[0]
            start = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
            moved = (x + EPSILON * start / lengths(start)).clamp(0, 1)
        for _ in range(STEPS):
            moved.requires_grad_(True)
            damage = (model.encode(moved)[0] - clean).square().sum()
            (gradient,) = torch.autograd.grad(damage, moved)
            with torch.no_grad():
                step = moved + 2.5 / STEPS * EPSILON * gradient / lengths(gradient) - x
                moved = (x + step * (EPSILON / lengths(step)).clamp(max=1)).clamp(0, 1)
        with torch.no_grad():
            return (model.encode(moved)[0] - clean).norm(dim=1, keepdim=True)

    return run


def loop(name, metric, images, folder, layout=None):
    """What whoever knows PyTorch writes in five lines: one backward pass a row of the whole batch, eigvalsh of the Gram
    matrix (here in f32, like torch.func's)."""
    import torch

    layout = layout or torch.contiguous_format
    model, x = torch_model(name).to(memory_format=layout), torch.from_numpy(images).contiguous(memory_format=layout)
    if metric == "pgd":
        return pgd(model, x)

    def run():
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_(True)
        mu, logvar = model.encode(inputs)
        outputs = torch.cat([mu, torch.exp(0.5 * logvar)], 1) if metric == "stochastic" else mu
        rows = [torch.autograd.grad(row.sum(), inputs, retain_graph=True)[0] for row in outputs.T]
        factor = torch.stack(rows, 1).flatten(2)
        return torch.linalg.eigvalsh(factor @ factor.mT).flip(-1)

    return run


def loop_nhwc(name, metric, images, folder):
    """The same with maps channels last."""
    import torch

    return loop(name, metric, images, folder, torch.channels_last)


def torch_func(name, metric, images, folder):
    """What a PyTorch user would write today: vmap over jacrev (jacfwd for the decoder), eigvalsh of the Gram matrix; in chunks of the size
    that is fastest here."""
    import torch
    from torch.func import jacfwd, jacrev, vmap

    model, x = torch_model(name), torch.from_numpy(images)
    mean = lambda image: model.encode(image[None])[0][0]
    sigma = lambda image: torch.exp(0.5 * model.encode(image[None])[1][0])
    both = lambda image: torch.cat([mean(image), sigma(image)])

    def run(chunk):
        factor = vmap(jacrev(both if metric == "stochastic" else mean), chunk_size=chunk)(x).flatten(2)
        if metric == "output":
            z = model.encode(x)[0]
            j_g = vmap(jacfwd(lambda code: model.decode(code[None])[0].flatten()), chunk_size=chunk)(z)
            factor = torch.linalg.qr(j_g, mode="r").R @ factor
        return torch.linalg.eigvalsh(factor @ factor.mT).flip(-1)

    def seconds(chunk):
        start = time.perf_counter()
        run(chunk)
        return time.perf_counter() - start

    chosen = []

    def best():
        # The first pass, which is the check's, finds the chunk.
        if not chosen:
            chunks = [None, *(size for size in (8, 64) if size < len(x))]
            run(chunks[-1])
            chosen.append(min(chunks, key=seconds) if len(chunks) > 1 else None)
        return run(chosen[0])

    return best


def jax_model(name, folder):
    """encode(image [1, H, W]) -> (mean, sigma) and decode(code) of one sample, in JAX."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    w = {k: jnp.asarray(v) for k, v in np.load(folder / f"{name}.npz").items()}
    dense = lambda h, layer: h @ w[layer + ".weight"].T + w[layer + ".bias"]

    layers = json.loads((folder / "networks.json").read_text())[name]["layers"]

    def conv(h, layer):
        h = jax.lax.conv_general_dilated(h, w[layer + ".weight"], (2, 2), ((1, 1), (1, 1)),
                                         dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return h + w[layer + ".bias"][:, None, None]

    def transposed(h, layer):
        # The transpose of a convolution: its input spread by the stride, its kernel turned and its channels swapped.
        kernel = jnp.flip(w[layer + ".weight"], (2, 3)).swapaxes(0, 1)
        h = jax.lax.conv_general_dilated(h, kernel, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2),
                                         dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return h + w[layer + ".bias"][:, None, None]

    def norm(h, layer):
        scale = w[layer + ".weight"] / jnp.sqrt(w[layer + ".running_var"] + 1e-5)
        return (h - w[layer + ".running_mean"][:, None, None]) * scale[:, None, None] + w[layer + ".bias"][:, None, None]

    steps = {"conv": conv, "norm": norm, "dense": dense, "relu": lambda h, _: jax.nn.relu(h), "flatten": lambda h, _: h.reshape(-1)}

    def encode(image):
        h = image[None]
        for kind, layer in layers:
            h = steps[kind](h, layer)
        return dense(h, "mu"), jnp.exp(0.5 * dense(h, "logvar"))

    def decode(z):
        h = jax.nn.relu(dense(z, "decoder.0"))
        if name == "mlp":
            return jax.nn.sigmoid(dense(jax.nn.relu(dense(h, "decoder.2")), "decoder.4"))
        h = jax.nn.relu(transposed(h.reshape(1, 64, 7, 7), "decoder.3"))
        return jax.nn.sigmoid(transposed(h, "decoder.5")).reshape(-1)

    return encode, decode


def jax_peer(name, metric, images, folder):
    """The same in JAX, compiled."""
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(images)
    encode, decode = jax_model(name, folder)
    rows = (lambda image: jnp.concatenate(encode(image))) if metric == "stochastic" else (lambda image: encode(image)[0])

    @jax.jit
    def spectra(x):
        factor = jax.vmap(jax.jacrev(rows))(x).reshape(len(x), -1, x[0].size)
        if metric == "output":
            j_g = jax.vmap(jax.jacfwd(decode))(jax.vmap(rows)(x))
            factor = jnp.linalg.qr(j_g, mode="r") @ factor
        return jnp.linalg.eigvalsh(factor @ factor.swapaxes(1, 2))[:, ::-1]

    return lambda: spectra(x).block_until_ready()


def gemm(name, metric, images, folder):
    """No peer: the measure of the machine. A product of 4.3 GFlop, whose rate and a network's operations make its floor."""
    import torch

    a, b = torch.rand(2048, 1024), torch.rand(1024, 1024)
    return lambda: (a @ b)[:1, :1]


# --- a process ----------------------------------------------------------------------------------------------------------


def serve(eigenvalues, repeat, baseline, stem, folder):
    """Answers until the input ends."""
    import numpy as np

    file = folder / f"{stem}.npy"
    np.save(file, eigenvalues)
    print(json.dumps({"eigenvalues": str(file), "baseline": baseline}), flush=True)
    for line in sys.stdin:
        seconds, peak = repeat(int(line))
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


PEERS = {"gemm": gemm, "authors": authors, "loop": loop, "loop-nhwc": loop_nhwc, "torch.func": torch_func, "jax": jax_peer}


def serve_python(peer, name, metric, batch, folder):
    import numpy as np

    threads = int(os.environ["OMP_NUM_THREADS"])
    if peer != "jax":
        import torch

        torch.set_num_threads(threads)
    images = load_images(folder, name, batch)
    run = PEERS[peer](name, metric, images, folder)
    baseline = resident_peak()

    def repeat(count):
        # Others ran meanwhile: as before pullback's clock, whoever begins again runs untimed first, until caches and cores are warm.
        begun, runs = time.perf_counter(), 0
        while time.perf_counter() - begun < WARM and runs < WARM_UP:
            run()
            runs += 1
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds, resident_peak()

    # The first pass is the check's and the warm-up (and JAX's compilation).
    eigenvalues = np.asarray(run(), np.float64)
    serve(eigenvalues, repeat, baseline, f"{peer}-{name}-{metric}-{batch}", folder)


def serve_pullback(name, metric, batch, folder, form):
    """pullback through its binary: `score` for the check, `bench` for the clock. `form`: of the model, "", "-traced" or "-trained"."""
    import h5py
    import numpy as np

    binary, threads = os.environ["PULLBACK"], os.environ["OMP_NUM_THREADS"]
    file = f"{name}{form}" if form == "-trained" else f"{name}{form}.pt"
    model, images = folder / file, folder / images_file(SIDES[name])
    attacks = metric == "pgd"
    common = ["--model", model, "--data", images, "--device", "cpu", "--threads", threads, "--limit", str(batch)]
    common += [] if attacks else ["--metric", metric]
    stem = f"pullback{form}-{name}-{metric}-{batch}"
    stored = folder / f"{stem}.h5"
    work = ["attack", "--attack", "pgd", "--eps", str(EPSILON)] if attacks else ["score"]
    subprocess.run([binary, *work, "-q", "--force", *common, "-o", stored], check=True)
    with h5py.File(stored) as f:
        eigenvalues = f["attack/pgd/latent_l2"][0][:, None] if attacks else f["spectrum/eigenvalues"][...]

    def repeat(count):
        work = ["--work", "pgd", "--steps", str(STEPS)] if attacks else []
        command = [binary, "bench", "-q", *common, *work, "--repeat", str(count), "--json"]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        (timing,) = report["timings"]
        return timing["seconds"], timing["peak_bytes"] - timing["baseline_bytes"]

    serve(eigenvalues, repeat, 0, stem, folder)


def main():
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), trained=TRAINED)
        return
    peer, name, metric, batch, folder = sys.argv[1:]
    if peer.startswith("pullback"):
        serve_pullback(name, metric, int(batch), Path(folder), peer.removeprefix("pullback"))
    else:
        serve_python(peer, name, metric, int(batch), Path(folder))


if __name__ == "__main__":
    main()
