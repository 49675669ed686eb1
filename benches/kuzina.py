"""The unsupervised attack of Kuzina, Welling & Tomczak 2021 ("Diagnosing vulnerability of variational auto-encoders to adversarial
attacks"), written anew, against this engine's, on the same model and images: symmetric KL divergence in Linf.

    python benches/kuzina.py MODEL.pt IMAGES.h5 --binary target/release/pullback [--count 50] [--eps 0.1,0.2]

As they do it: one image at a time, several random starts, 50 steps of SGD on the symmetric KL of the posteriors, the perturbation clipped
to the ball after each step, the image to [0, 1]; the best start counts. The learning rate is theirs to tune: seven are tried, and the one
that finds most is told. Everything found is judged by the same lines, in PyTorch.
"""

import argparse
import pathlib
import subprocess
import tempfile
import time

import h5py
import numpy as np
import torch


def skl(a, b):
    """Mean of both KL divergences of diagonal Gaussians (mu, logvar), [B]."""
    (m, s), (n, t) = a, b
    kl = lambda m, s, n, t: 0.5 * ((s - t).exp() + (m - n) ** 2 * (-t).exp() - 1 + t - s).sum(1)
    return 0.5 * (kl(m, s, n, t) + kl(n, t, m, s))


def theirs(vae, x, eps, starts, lr, offset=0, steps=50):
    """The best image of each sample, one sample after the other; the first is number `offset`."""
    found = []
    for i in range(len(x)):
        x0 = x[i:i + 1]
        with torch.no_grad():
            clean = vae.encode(x0)
        best, image = -1.0, x0
        for start in starts:
            generator = torch.Generator().manual_seed(1000 * (offset + i) + start)
            d = (torch.rand(x0.shape, generator=generator) * 2 - 1) * eps
            d = ((x0 + d).clamp(0, 1) - x0).requires_grad_(True)
            sgd = torch.optim.SGD([d], lr=lr)
            for _ in range(steps):
                sgd.zero_grad()
                (-skl(vae.encode(x0 + d), clean)).sum().backward()
                sgd.step()
                with torch.no_grad():
                    d.copy_((x0 + d.clamp(-eps, eps)).clamp(0, 1) - x0)
            with torch.no_grad():
                value = skl(vae.encode(x0 + d), clean).item()
            if value > best:
                best, image = value, (x0 + d).detach()
        found.append(image)
    return torch.cat(found)


def ours(binary, model, images, count, eps, attack):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "a.h5"
        command = [binary, "attack", "-m", model, "-d", images, "--limit", str(count), "-o", str(out), "--norm", "linf", "--eps", str(eps),
                   "--goal", "skl", "--save-images", "-q", *attack]
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - begun
        with h5py.File(out) as file:
            name = "suite" if "suite" in file["damage"] else "race"
            passes = [file[f"passes/{name}/{way}"][0].mean() for way in ("forward", "backward")]
            return torch.from_numpy(file[f"attack/{name}/images"][0]), seconds, passes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--eps", default="0.1,0.2")
    parser.add_argument("--tuned", type=int, default=20, help="images on which the learning rate is chosen")
    parser.add_argument("--rounds", type=int, default=3, help="parts of theirs, with ours after each")
    options = parser.parse_args()
    vae = torch.jit.load(options.model)
    with h5py.File(options.images) as file:
        x = torch.from_numpy(file["images"][:options.count])
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    print(f"{options.model}, {len(x)} images, Linf, symmetric KL; torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    for eps in map(float, options.eps.split(",")):
        def judged(image):
            x0 = x[:len(image)]
            assert float((image - x0).abs().max()) <= eps * (1 + 1e-6) and float(image.min()) >= 0 and float(image.max()) <= 1
            with torch.no_grad():
                return skl(vae.encode(image), vae.encode(x0)).numpy()

        rates = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
        few = {lr: judged(theirs(vae, x[:options.tuned], eps, range(1), lr)).mean() for lr in rates}
        lr = max(few, key=few.get)
        print(f"eps {eps}: one start, {options.tuned} images, mean by learning rate: " + ", ".join(f"{k}: {v:.1f}" for k, v in few.items()))
        attacks = {"race, budget 500": ["--attack", "race", "--budget", "500"], "suite": ["--attack", "suite"]}
        # Ten starts are theirs; 19 take as many passes as the suite. Theirs and ours take turns, so that other work falls on both.
        parts, spent, found, own = {10: [], 19: []}, {10: 0.0, 19: 0.0}, {}, {name: [] for name in attacks}
        for rows in x.tensor_split(options.rounds):
            first = sum(map(len, parts[10]))
            begun = time.perf_counter()
            ten = theirs(vae, rows, eps, range(10), lr, first)
            spent[10] += time.perf_counter() - begun
            more = theirs(vae, rows, eps, range(10, 19), lr, first)
            spent[19] += time.perf_counter() - begun
            parts[10].append(ten)
            with torch.no_grad():
                clean = vae.encode(rows)
                better = skl(vae.encode(more), clean) > skl(vae.encode(ten), clean)
            parts[19].append(torch.where(better.view(-1, 1, 1, 1), more, ten))
            for name, attack in attacks.items():
                found[name], seconds, passes = ours(options.binary, options.model, options.images, len(x), eps, attack)
                own[name].append(seconds)
                found[name] = (judged(found[name]), passes)
        for starts, images in parts.items():
            reference = judged(torch.cat(images))
            print(f"eps {eps}: theirs, {starts} starts of 50 steps ({50 * starts} passes each way), lr {lr}: mean {reference.mean():.1f}, {spent[starts]:.1f} s", flush=True)
            for name, (values, (forward, backward)) in found.items():
                seconds = np.median(own[name])
                print(f"eps {eps}: {name} ({forward:.0f} forward, {backward:.0f} back): mean {values.mean():.1f}, {values.mean() / reference.mean():.2f} times theirs; "
                      f"worst image {np.min(values / reference):.2f} of theirs, {np.sum(values < reference)} images below; {seconds:.1f} s, "
                      f"{seconds / spent[starts]:.3f} of their time", flush=True)


main()
