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


def theirs(vae, x, eps, starts, lr, steps=50):
    """The best image of each sample, one sample after the other."""
    found = []
    for i in range(len(x)):
        x0 = x[i:i + 1]
        with torch.no_grad():
            clean = vae.encode(x0)
        best, image = -1.0, x0
        for start in range(starts):
            generator = torch.Generator().manual_seed(1000 * i + start)
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
    options = parser.parse_args()
    vae = torch.jit.load(options.model)
    with h5py.File(options.images) as file:
        x = torch.from_numpy(file["images"][:options.count])
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    with torch.no_grad():
        clean = vae.encode(x)
    print(f"{options.model}, {len(x)} images, Linf, symmetric KL; torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    for eps in map(float, options.eps.split(",")):
        def judged(image):
            assert float((image - x).abs().max()) <= eps * (1 + 1e-6) and float(image.min()) >= 0 and float(image.max()) <= 1
            with torch.no_grad():
                return skl(vae.encode(image), clean).numpy()

        few = {lr: judged(theirs(vae, x[:], eps, 1, lr)).mean() for lr in (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)}
        lr = max(few, key=few.get)
        begun = time.perf_counter()
        reference = judged(theirs(vae, x, eps, 10, lr))
        seconds = time.perf_counter() - begun
        print(f"eps {eps}: one start, mean by learning rate: " + ", ".join(f"{k}: {v:.1f}" for k, v in few.items()))
        print(f"eps {eps}: theirs, 10 starts of 50 steps (500 passes each way), lr {lr}: mean {reference.mean():.1f}, {seconds:.1f} s", flush=True)
        for name, attack in (("race, budget 500", ["--attack", "race", "--budget", "500"]), ("suite-1", ["--attack", "suite"])):
            image, own, (forward, backward) = ours(options.binary, options.model, options.images, len(x), eps, attack)
            found = judged(image)
            print(f"eps {eps}: {name} ({forward:.0f} forward, {backward:.0f} back): mean {found.mean():.1f}, {found.mean() / reference.mean():.2f} times theirs; "
                  f"worst image {np.min(found / reference):.2f} of theirs, {np.sum(found < reference)} images below; {own:.1f} s, {own / seconds:.2f} of their time",
                  flush=True)


main()
