"""A straightforward PGD in PyTorch, and what it finds: tests/golden/pgd.json, which tests/attack/pytorch.rs reads.

    python tests/golden/pgd.py             (needs torch)

Madry et al. 2018: a random start, `steps` steps of 2.5 epsilon / steps along the sign of the gradient (Linf) or the gradient over
its length (L2), projection onto the ball and the box after each; the last iterate counts. The goal is |mu(x') - mu(x)|. Per norm,
epsilon and steps: the mean damage over images and ten seeds, and the standard deviation over seeds of the mean over images.
"""

import json
from pathlib import Path

import torch

HERE = Path(__file__).parent
COUNT, SEEDS = 16, 10


def images(count, shape):
    """Waves, by a formula that the test repeats: [count, *shape] in [0.1, 0.9]."""
    size = torch.Size(shape).numel()
    place = torch.arange(count * size, dtype=torch.float64)
    return (0.5 + 0.4 * torch.sin(0.37 * place + 0.011 * place * (place % 7))).reshape(count, *shape)


def pgd(model, x, norm, eps, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    flat = lambda t: t.flatten(1)
    with torch.no_grad():
        mu = model.encode(x)[0]
    if norm == "linf":
        delta = (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1) * eps
    else:
        delta = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        delta = delta / flat(delta).norm(dim=1).view(-1, 1, 1, 1) * eps
    moved = (x + delta).clamp(0, 1)
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        damage = (model.encode(moved)[0] - mu).norm(dim=1)
        (gradient,) = torch.autograd.grad(damage.sum(), moved)
        if norm == "linf":
            step = gradient.sign()
        else:
            step = gradient / flat(gradient).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        delta = moved.detach() + 2.5 * eps / steps * step - x
        if norm == "linf":
            delta = delta.clamp(-eps, eps)
        else:
            delta = delta * (eps / flat(delta).norm(dim=1).clamp_min(1e-12)).clamp_max(1).view(-1, 1, 1, 1)
        moved = (x + delta).clamp(0, 1)
    with torch.no_grad():
        return (model.encode(moved)[0] - mu).norm(dim=1)


def main():
    rows = []
    for case, shape in CASES.items():
        model = torch.jit.load(HERE / "cases" / case / "vae.pt").double()
        x = images(COUNT, shape)
        for norm, sizes in [("l2", [0.5]), ("linf", [0.1])]:
            for eps in sizes:
                for steps in [5, 20]:
                    means = torch.stack([pgd(model, x, norm, eps, steps, seed).mean() for seed in range(SEEDS)])
                    row = {"case": case, "norm": norm, "eps": eps, "steps": steps}
                    rows.append({**row, "mean": means.mean().item(), "deviation": means.std().item()})
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    (HERE / "pgd.json").write_text(f"[\n{lines}\n]\n")


CASES = {"free_logvar": (1, 6, 6), "batch_norm": (3, 6, 8), "attention": (1, 8, 8)}

if __name__ == "__main__":
    main()
