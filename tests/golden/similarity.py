"""Makes the numbers of tests/shift.rs: SSIM and MS-SSIM of pytorch-msssim on images from formulas.

    pip install torch pytorch-msssim==1.0.0 torchmetrics==1.9.0 && python -O similarity.py

-O switches off pytorch-msssim's assertion of sides above 160: the smaller images get the weights of as many scales as
leave 11 pixels, summing to 1. SSIM is checked against torchmetrics without its padded margin.
"""
import torch
from pytorch_msssim import ms_ssim, ssim
from torchmetrics.functional.image import structural_similarity_index_measure as other_ssim

WEIGHTS = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333], dtype=torch.float64)


def images(channels, height, width, strength):
    c = torch.arange(channels, dtype=torch.float64)[:, None, None]
    i = torch.arange(height, dtype=torch.float64)[None, :, None]
    j = torch.arange(width, dtype=torch.float64)[None, None, :]
    a = 0.5 + 0.4 * torch.sin(0.37 * i + 0.61 * j + c)
    b = a + strength * torch.sin(1.7 * i - 0.9 * j + 2 * c)
    return a[None], b.clamp(0, 1)[None]


def scales(side):
    n = 0
    while n < 5 and side >= 11:
        n, side = n + 1, (side + 1) // 2
    return n


for channels, height, width, strength in [
    (1, 28, 28, 0.05), (1, 28, 28, 0.5), (3, 32, 32, 0.2), (1, 64, 64, 0.3), (1, 12, 40, 0.2),
    (3, 176, 176, 0.2), (1, 181, 193, 0.4),
]:
    a, b = images(channels, height, width, strength)
    one = ssim(a, b, data_range=1).item()
    full = other_ssim(a, b, data_range=1.0, return_full_image=True)[1]
    two = full[..., 5:-5, 5:-5].mean().item()
    if abs(one - two) > 1e-6:
        raise SystemExit(f"pytorch-msssim {one}, torchmetrics {two}")
    weights = WEIGHTS[: scales(min(height, width))]
    multi = ms_ssim(a, b, data_range=1, weights=(weights / weights.sum()).tolist()).item()
    print(f"    ({channels}, {height}, {width}, {strength}, {one:.9f}, {multi:.9f}),")
