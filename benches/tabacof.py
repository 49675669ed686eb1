"""Targeted attacks on the latent code of Tabacof, Tavares & Valle 2016 ("Adversarial images for variational autoencoders"), written anew:
is a VAE harder to attack than a deterministic autoencoder? And what does this engine's attack find on the same pairs of images?

    python benches/tabacof.py MNIST --folder RUNS --train vae --epochs 50     # then --train ae; the weights of each epoch are kept
    python benches/tabacof.py MNIST --folder RUNS --attack vae --epochs 50 --binary target/release/pullback    # then --attack ae
    python benches/tabacof.py MNIST --folder RUNS

MNIST is a folder of the IDX files; scipy, the Python package and the program (--binary) are needed. As they do it: networks of
784-512-512-20-512-512-784, ReLU, trained on images binarised at 0.5 (Adam, 0.001, batches of 100, the norm of the gradient at most 5 and its
entries at most 1; ELBO with a Bernoulli decoder, or mean square error); images attacked as they are. Of an image x and a target t of another
class they minimise 100 J(x + d) + C |d|^2 by L-BFGS-B (m 25, factr 10) within 0 <= x + d <= 1, from noise of 1e-8. J is the square of the
distance of the codes (AE), or what they take for the KL divergence from q(z|x + d) to q(z|t) (VAE): sigma stands where sigma^2 belongs, and the
logarithms are not halved. (--divergence kl takes the true one. The 100 comes from a sum over a batch of 100 equal rows.)

Their curve: |d| / |x - t| across, and up (|g(x + d) - t| - |g(t) - t|) / (|g(x) - t| - |g(t) - t|), where g reconstructs, by the mean over
100 draws of the code for the VAE: 1 where the attack does nothing, 0 where it does as well as the target itself. The area under it, from 0
to 1 across, is larger where a model is harder to attack. They publish the curves, and no area.
"""

import argparse
import pathlib
import queue
import subprocess
import threading
import time

import numpy as np
import pullback as pb
import torch
from scipy.optimize import fmin_l_bfgs_b
from torch import nn
from torch.nn import functional

SIZES = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
SEED = 1234


class Network(nn.Module):
    """Images [B, 1, 28, 28]; encode gives mu and ln sigma^2 [B, 20], or the code [B, 20]."""

    def __init__(self, variational):
        super().__init__()
        self.variational = variational
        last = nn.Linear(512, 40 if variational else 20)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), last)
        self.decoder = nn.Sequential(nn.Linear(20, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 784))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def encode(self, x):
        code = self.encoder(x)
        return tuple(code.chunk(2, 1)) if self.variational else code

    def decode(self, z):
        return self.decoder(z).sigmoid().view(-1, 1, 28, 28)

    def loss(self, x):
        if not self.variational:
            return functional.mse_loss(self.decode(self.encode(x)), x)
        mu, logvar = self.encode(x)
        logits = self.decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu))
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
        return (functional.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum") + kl) / len(x)


def train(name, mnist, folder, epochs):
    torch.manual_seed(SEED)
    x = (pb.images(mnist, split="train")[0] > 0.5).float()
    held = pb.images(mnist, split="test")[0]
    network = Network(name == "vae")
    adam = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
    for epoch in range(1, epochs + 1):
        begun, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(x)).split(100):
            adam.zero_grad()
            loss = network.loss(x[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5)
            nn.utils.clip_grad_value_(network.parameters(), 1)
            adam.step()
            total += loss.item() * len(rows) / len(x)
        with torch.no_grad():
            test = network.loss(held).item()
        torch.save(network.state_dict(), folder / f"{name}-{epoch}.pt")
        told = f"loss {total:.5g}, test images (not binarised) {test:.5g}, {time.perf_counter() - begun:.0f} s"
        print(f"{name}, epoch {epoch}: {told}", flush=True)


def distance(network, images, target):
    """Of the reconstructions of images [B, 1, 28, 28] from the target [1, 1, 28, 28], mean over draws of the code, [B]."""
    with torch.no_grad():
        if not network.variational:
            return (network.decode(network.encode(images)) - target).flatten(1).norm(dim=1).numpy()
        mu, logvar = network.encode(images)
        noise = torch.randn((100, 1, 20), generator=torch.Generator().manual_seed(SEED))
        z = mu + (0.5 * logvar).exp() * noise
        return (network.decode(z.flatten(0, 1)) - target).flatten(1).norm(dim=1).view(100, -1).mean(0).numpy()


def objective(network, images, aim, divergence):
    """J of images [B, 1, 28, 28] and the target's outputs of encode, [B]."""
    code = network.encode(images)
    if not network.variational:
        return ((code - aim) ** 2).sum(1)
    (m, s), (n, t) = code, aim
    if divergence == "kl":
        return 0.5 * (((s - t).exp() + (m - n) ** 2 * (-t).exp() - 1 + t - s)).sum(1)
    return (((0.5 * s).exp() + (m - n) ** 2) * (-0.5 * t).exp() + t - s - 0.5).sum(1)


def theirs(network, jobs, divergence):
    """Their images [jobs, 1, 28, 28], and how often they asked for a gradient. A job is an image, its target [1, 1, 28, 28], and C. Every
    search is SciPy's own, in a thread of its own; what they ask for at one time is computed in one batch."""
    x, weights = torch.cat([x for x, _, _ in jobs]), torch.tensor([float(weight) for _, _, weight in jobs])
    targets = network.encode(torch.cat([target for _, target, _ in jobs]))
    asked, answers, ends = queue.SimpleQueue(), [queue.SimpleQueue() for _ in jobs], {}

    def search(k):
        def value(d):
            asked.put((k, d.copy()))
            return answers[k].get()

        flat = x[k].flatten().double().numpy()
        start = np.clip(np.random.default_rng([SEED, k]).uniform(-1e-8, 1e-8, 784), -flat, 1 - flat)
        try:
            ends[k] = fmin_l_bfgs_b(value, start, bounds=list(zip(-flat, 1 - flat)), factr=10, m=25)
        finally:
            asked.put((k, None))

    for k in range(len(jobs)):
        threading.Thread(target=search, args=(k,), daemon=True).start()
    left, waiting = len(jobs), {}
    while left:
        k, d = asked.get()
        if d is None:
            left -= 1
        else:
            waiting[k] = d
        if waiting and len(waiting) == left:
            rows = list(waiting)
            d = torch.tensor(np.stack([waiting[k] for k in rows]), dtype=torch.float32, requires_grad=True)
            aim = tuple(part[rows] for part in targets) if network.variational else targets[rows]
            loss = 100 * objective(network, x[rows] + d.view(-1, 1, 28, 28), aim, divergence) + weights[rows] * (d**2).sum(1)
            gradient = torch.autograd.grad(loss.sum(), d)[0].double().numpy()
            for k, one, slope in zip(rows, loss.tolist(), gradient):
                answers[k].put((one, slope))
            waiting = {}
    d = torch.tensor(np.stack([ends[k][0] for k in range(len(jobs))]), dtype=torch.float32)
    return (x + d.view_as(x)).clamp(0, 1), sum(end[2]["funcalls"] for end in ends.values())


def area(across, up):
    """Under the curve from (0, 1) on, by the trapezoidal rule; beyond its last point up to 1 it keeps its last value."""
    kept = (across >= 0) & (across <= 1)
    order = np.argsort(across[kept], kind="stable")
    across, up = across[kept][order], up[kept][order]
    return np.trapezoid(np.concatenate([[1], up, up[-1:]]), np.concatenate([[0], across, [1]]))


def load(name, folder, epochs):
    network = Network(name == "vae").eval().requires_grad_(False)
    network.load_state_dict(torch.load(folder / f"{name}-{epochs}.pt"))
    return network


def attack(name, options):
    """Both attacks on the same pairs; curves and objectives of all to RUNS/<name>-curves.npz."""
    images, classes = pb.images(options.mnist, split="test")
    chosen = np.random.default_rng(SEED).choice(len(images), options.pairs * 6 // 5 + 2, replace=False)
    x, y = images[chosen], classes[chosen]
    network = load(name, options.folder, options.epochs)
    begun = time.perf_counter()
    model, data, out = (options.folder / f"{name}{end}" for end in (".pt", "-images.npy", "-ours.h5"))
    np.save(data, x.numpy())
    pb.export(pb.Model(network, posterior="logvar" if network.variational else None), model, x[:2], force=True)
    command = [options.binary, "attack", "-m", model, "-d", data, "-o", out, "--attack", "race", "--budget", str(options.budget)]
    command += ["--norm", "l2", "--eps", ",".join(map(str, SIZES)), "--goal", "kl" if network.variational else "latent", "--metric", "mean"]
    if not out.exists():
        subprocess.run([*command, "--target", "shuffle", "--seed", str(SEED), "--save-images", "-q"], check=True)
    found = pb.open(out)
    partner, ours = found["/target"].tolist(), found.images["race"]
    passes = [found[f"/passes/race/{way}"].double().mean() for way in ("forward", "backward")]
    print(f"{name}, {options.epochs} epochs: race, budget {options.budget} ({passes[0]:.0f} forward, {passes[1]:.0f} back a size), {len(x)} images, "
          f"{len(SIZES)} sizes: {time.perf_counter() - begun:.0f} s", flush=True)
    pairs = [(i, j) for i, j in enumerate(partner) if y[i] != y[j]][: options.pairs]
    weights = np.logspace(*options.range, options.values, base=2)
    rows, begun = [], time.perf_counter()
    moved, calls = theirs(network, [(x[i : i + 1], x[j : j + 1], weight) for i, j in pairs for weight in weights], options.divergence)
    print(f"{name}: theirs, {len(pairs)} pairs, {len(weights)} values of C from 2^{options.range[0]:g} to 2^{options.range[1]:g}: "
          f"{calls / len(moved):.0f} gradients each, {time.perf_counter() - begun:.0f} s", flush=True)
    for (i, j), own in zip(pairs, moved.split(len(weights))):
        source, target = x[i : i + 1], x[j : j + 1]
        low, high = distance(network, target, target)[0], distance(network, source, target)[0]
        row = {"pair": (chosen[i], chosen[j]), "apart": float((source - target).norm())}
        for who, images in (("theirs", own), ("ours", ours[:, i])):
            assert float(images.min()) >= 0 and float(images.max()) <= 1
            up = (distance(network, images, target) - low) / (high - low)
            with torch.no_grad():
                left = objective(network, images, network.encode(target), "kl").numpy()
            row[who] = [(images - source).flatten(1).norm(dim=1).numpy(), up, left]
        rows.append(row)
    np.savez(options.folder / f"{name}-curves.npz", **{key: [row[key] for row in rows] for key in rows[0]})


def report(folder):
    """Areas, their difference, and where each attack brings the code nearer to the target's within the same length."""
    print(f"torch {torch.__version__}, pullback {pb.__version__}")
    areas = {}
    for name in ("vae", "ae"):
        with np.load(folder / f"{name}-curves.npz") as file:
            apart, curves = file["apart"], {who: file[who] for who in ("theirs", "ours")}
        for who, curve in curves.items():
            areas[name, who] = np.array([area(c[0] / a, c[1]) for c, a in zip(curve, apart)])
            print(f"{name}, {who}: {len(apart)} pairs, area {areas[name, who].mean():.3f} +- {areas[name, who].std():.3f}")
        ratios = []
        for k in range(len(SIZES)):
            for them, us in zip(curves["theirs"], curves["ours"]):
                inside = them[0] <= SIZES[k] * (1 + 1e-6)
                if inside.any():
                    ratios.append((us[2][: k + 1].min(), them[2][inside].min()))
        nearer = np.mean([us <= them for us, them in ratios])
        logs = np.log([us / them for us, them in ratios])
        print(f"{name}: within the same length ours brings the code nearer in {nearer:.0%} of {len(ratios)} cases; "
              f"{'KL divergence' if name == 'vae' else 'square distance'} left, ours / theirs: geometric mean {np.exp(logs.mean()):.2f}, "
              f"median {np.exp(np.median(logs)):.2f}, worst {np.exp(logs.max()):.2f}")
    draws = np.random.default_rng(SEED)
    for who in ("theirs", "ours"):
        count = min(len(areas["vae", who]), len(areas["ae", who]))
        gap = areas["vae", who][:count] - areas["ae", who][:count]
        boot = [gap[draws.integers(0, count, count)].mean() for _ in range(10000)]
        low, high = np.percentile(boot, [2.5, 97.5])
        print(f"{who}: VAE - AE on the same {count} pairs {gap.mean():+.3f} [{low:+.3f}, {high:+.3f}], the VAE's is larger on {np.sum(gap > 0)}")
    for name in ("vae", "ae"):
        gap = areas[name, "ours"] - areas[name, "theirs"]
        boot = [gap[draws.integers(0, len(gap), len(gap))].mean() for _ in range(10000)]
        print(f"{name}: ours - theirs {gap.mean():+.3f} [{np.percentile(boot, 2.5):+.3f}, {np.percentile(boot, 97.5):+.3f}]")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist")
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--train", choices=("vae", "ae"))
    parser.add_argument("--attack", choices=("vae", "ae"))
    parser.add_argument("--binary", default="pullback")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--values", type=int, default=100, help="values of C")
    parser.add_argument("--range", type=float, nargs=2, default=(-20.0, 20.0), help="powers of two between which they lie")
    parser.add_argument("--divergence", choices=("theirs", "kl"), default="theirs")
    parser.add_argument("--budget", type=int, default=500)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.train:
        train(options.train, options.mnist, options.folder, options.epochs)
    elif options.attack:
        attack(options.attack, options)
    else:
        report(options.folder)


main()
