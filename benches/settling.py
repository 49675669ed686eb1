"""What it costs to find the size of a pass: short runs end to end, the first images of a long run, and the choice on a busy machine.

    python benches/settling.py --binary target/release/pullback [--parts short,first,busy] [--models mlp,conv,burgess32,burgess64] [--rounds 3]

short  `score` of 200 images, from the start of the program to its end, against a program with torch.func (`vmap(jacrev)`, eigvalsh of the
       Gram matrix, chunks of 64 or all) that opens the same images and writes the same file. The target is a ratio of 1.5.
first  seconds an image after the first 64, block by block, over the settled ones: the target is at most 3.
busy   with a spinning process on each core, the rate of the run's own choice over that of the choice on the quiet machine, in turn: at least 0.9.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peer

PROGRAM = """
import sys
import h5py, torch
from torch.func import jacrev, vmap
sys.path.insert(0, sys.argv[1])
import peer
images, name, metric, chunk, count, out = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]), sys.argv[7]
model = peer.torch_model(name)
with h5py.File(images) as file:
    x = torch.from_numpy(file["images"][:count])
mean = lambda image: model.encode(image[None])[0][0]
both = lambda image: torch.cat([mean(image), torch.exp(0.5 * model.encode(image[None])[1][0])])
values = []
for part in x.split(chunk):
    factor = vmap(jacrev(both if metric == "stochastic" else mean))(part).flatten(2)
    values.append(torch.linalg.eigvalsh(factor @ factor.mT).flip(-1))
with h5py.File(out, "w") as file:
    file["eigenvalues"] = torch.cat(values).numpy()
"""
COUNT, SETTLED = 200, 64


def seconds(command):
    start = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def score(options, folder, name, metric, *more):
    images = folder / peer.images_file(peer.SIDES[name])
    return [options.binary, "score", "--force", "-m", folder / f"{name}.pt", "-d", images, "--device", "cpu", "--metric", metric,
            "-o", folder / "ours.h5", *more]


def short(options, folder, name, metric):
    images, program = folder / peer.images_file(peer.SIDES[name]), folder / "program.py"
    program.write_text(PROGRAM)
    ways = {"pullback": score(options, folder, name, metric, "-q", "--limit", COUNT)}
    for chunk in (64, COUNT):
        ways[f"chunks of {chunk}"] = [sys.executable, program, Path(__file__).parent, images, name, metric, chunk, COUNT, folder / "theirs.h5"]
    times = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, command in ways.items():
            times[way].append(seconds(command))
    ours, *theirs = (statistics.median(t) for t in times.values())
    return f"{ours:.2f} s, torch.func {min(theirs):.2f} s: {min(theirs) / ours:.2f} times"


def first(options, folder, name, metric):
    command = score(options, folder, name, metric, "--progress", "json")
    events = []
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("task") == "scoring" and event.get("phase") == "running":
            events.append((event["done"], event["elapsed"]))
    assert process.wait() == 0
    spans = [(b[0] - a[0], b[1] - a[1], a[0]) for a, b in zip(events, events[1:]) if b[0] > a[0]]
    half = events[-1][0] / 2
    if not spans:
        return f"{events[-1][0]} images in one block"
    late = [s for s in spans if s[2] >= half] or spans[-1:]
    settled = sum(s[1] for s in late) / sum(s[0] for s in late)
    later = [s[1] / s[0] / settled for s in spans if s[2] >= SETTLED]
    if not later:
        return f"{events[-1][0]} images, too quick to see a block after the first {SETTLED}"
    return f"settled {1e3 * settled:.3f} ms an image of {events[-1][0]}; the dearest block after the first {SETTLED} images {max(later):.2f} times"


def told(command):
    """The seconds of computing, and the samples of a pass, that a run tells."""
    said = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
    return float(re.search(r"computing ([\d.]+) s", said)[1]), int(re.search(r"passes: (\d+) samples", said)[1])


def busy(options, folder, name, metric):
    run = lambda *more: told(score(options, folder, name, metric, "-v", "--progress", "none", *more))
    _, quiet = run()
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        own, fixed, chosen = [], [], []
        for _ in range(options.rounds):
            computing, size = run()
            own.append(computing)
            chosen.append(size)
            fixed.append(run("--batch", quiet)[0])
    finally:
        for process in spinning:
            process.kill()
    return f"quiet choice {quiet}, busy choices {chosen}: {statistics.median(fixed) / statistics.median(own):.2f} of the quiet choice's rate"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--parts", default="short,first,busy")
    parser.add_argument("--models", default="mlp,conv,burgess32,burgess64")
    parser.add_argument("--metrics", default="mean,stochastic")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    parts = {"short": short, "first": first, "busy": busy}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        peer.prepare(folder, options.models.split(","))
        for part in options.parts.split(","):
            for name in options.models.split(","):
                for metric in options.metrics.split(","):
                    print(f"{part:6s} {name:10s} {metric:11s} {parts[part](options, folder, name, metric)}", flush=True)


if __name__ == "__main__":
    main()
