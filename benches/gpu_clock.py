"""What each operation of a conv VAE's Jacobian takes by itself, by PyTorch: a line of JSON an operation, as soon as it is known.

    python gpu_clock.py DEVICE IMAGES

The network is gpu_peer.py's (1 -> 32 -> 64 channels, 4x4 kernels of stride 2, 28 x 28 pixels, 2L = 64): IMAGES x 64 rows go back
through its convolutions at once, or as many as the memory holds. Clock: CUDA events, the median of the repetitions counts.
"""

import json
import statistics
import sys

from gpu_peer import torch_clock

ROWS, REPEAT = 64, 7


def main():
    import torch

    device, images = sys.argv[1], int(sys.argv[2])
    rows = images * ROWS
    back = torch.backends.cudnn
    settings = [(layout, benchmark, tf32) for layout in ("NCHW", "NHWC") for benchmark in (False, True) for tf32 in (False, True)]
    if device == "cpu":
        settings = [setting for setting in settings if not setting[1] and not setting[2]]

    def told(operation, how, run, flops=0.0, moved=0):
        """One line: seconds, and the rates that they are."""
        try:
            for _ in range(3):
                run()
            once = torch_clock(run, device)
            seconds = [once() for _ in range(REPEAT)]
        except RuntimeError as error:
            print(json.dumps(dict(operation=operation, how=how, seconds=None, note=f"not run: {str(error).splitlines()[0][:120]}")),
                  flush=True)
            return
        least = statistics.median(seconds)
        rates = ([f"{flops / least / 1e12:.2f} TFlop/s"] if flops else []) + ([f"{moved / least / 1e9:.0f} GB/s"] if moved else [])
        print(json.dumps(dict(operation=operation, how=how, seconds=seconds, note=", ".join([f"{rows} rows", *rates]))), flush=True)

    def laid(x, layout):
        return x.contiguous(memory_format=torch.channels_last if layout == "NHWC" else torch.contiguous_format)

    # What all else is held against.
    n = 8192 if device != "cpu" else 512
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    for tf32 in (False, True) if device != "cpu" else (False,):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        told(f"GEMM of {n}", "TF32" if tf32 else "f32", lambda: a @ b, flops=2.0 * n**3)
    torch.backends.cuda.matmul.allow_tf32 = False
    c = torch.empty_like(a)
    told("copy", "f32", lambda: c.copy_(a), moved=2 * a.nbytes)
    del a, b, c

    # Rows back through the heads: each row is a row of the head's weight, times the mask of the layer before.
    heads, mask = torch.randn(ROWS, 3136, device=device), torch.rand(images, 1, 3136, device=device) > 0.5
    told("heads and mask, 3136", "f32", lambda: heads * mask, moved=4 * rows * 3136)
    for name, cin, cout, side in (("conv2's transpose, 64 -> 32", 64, 32, 7), ("conv1's transpose, 32 -> 1", 32, 1, 14)):
        weight = torch.randn(cin, cout, 4, 4, device=device)
        x = torch.randn(rows, cin, side, side, device=device)
        flops = 2.0 * rows * cin * cout * 16 * side * side
        for layout, benchmark, tf32 in settings:
            back.benchmark, back.allow_tf32 = benchmark, tf32
            how = " ".join([layout, *(["benchmark"] if benchmark else []), *(["TF32"] if tf32 else [])])
            xs, ws = laid(x, layout), laid(weight, layout)
            told(name, how, lambda: torch.nn.functional.conv_transpose2d(xs, ws, stride=2, padding=1), flops=flops,
                 moved=4 * rows * (cin * side**2 + cout * 4 * side**2))
        back.benchmark = back.allow_tf32 = False
        masks = torch.rand(images, 1, cin, side, side, device=device) > 0.5
        spread = x.view(images, ROWS, cin, side, side)
        told(f"mask of {cin} x {side} x {side}", "f32", lambda: spread * masks, moved=8 * x.numel())
        del x, spread, masks

    # The price of the same bits each time, in a step of training.
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 4, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 4, 2, 1)).to(device)
    batch = torch.randn(128, 1, 28, 28, device=device)
    for deterministic in (False, True):
        back.deterministic = deterministic

        def learn():
            layers.zero_grad()
            layers(batch).square().sum().backward()

        told("two convolutions, a step of training", "deterministic" if deterministic else "any", learn)


if __name__ == "__main__":
    main()
