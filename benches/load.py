"""Large sets: a 2-million-image file scored end to end, its page, two ranks, and a rank at half speed.

    python benches/load.py PULLBACK FOLDER set|score|million|report|ranks|slow ...

`set` comes first: the others read its images and its model. `million` makes a result file of a million rows, for `report million.h5`.

FOLDER keeps what the steps share; each step prints a line of JSON and appends it to FOLDER/load.jsonl. The interpreter needs h5py and the
package `pullback` (crates/python). Wall times mean little on a machine that others use, so a process's own CPU time stands beside each.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

COUNT, ROWS = 2_000_000, 1_000_000
CONFIG = """
data: {source: strokes, limit: 2000, valid: 0}
model: {kind: mlp, hidden: [16], latent: 4}
train: {epochs: 1, batch: 100}
"""
TICK = os.sysconf("SC_CLK_TCK")


def told(folder, **row):
    row = {"at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "load": os.getloadavg()[0], **row}
    line = json.dumps(row)
    print(line, flush=True)
    with open(folder / "load.jsonl", "a") as file:
        print(line, file=file)


def images(path, count):
    """Generated digits, each shifted and dimmed in its own way: `/images` [N, 28, 28] in bytes, `/labels` [N]."""
    import h5py
    import numpy as np
    import pullback as pb

    drawn, classes = pb.images("strokes", split="train")
    drawn, classes = (drawn[:, 0] * 255).round().byte().numpy(), classes.numpy()
    dice = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        pixels = file.create_dataset("images", (count, 28, 28), "u1")
        labels = file.create_dataset("labels", (count,), "i8")
        for first in range(0, count, len(drawn)):
            rows = slice(first, min(first + len(drawn), count))
            moved = np.roll(drawn, dice.integers(-2, 3, 2), (1, 2))
            dimmed = (moved * dice.uniform(0.6, 1, (len(moved), 1, 1))).astype("u1")
            pixels[rows], labels[rows] = dimmed[: rows.stop - first], classes[: rows.stop - first]


def used(pid):
    """CPU seconds of a process, and the most memory that it held, in bytes."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    return (int(fields[11]) + int(fields[12])) / TICK, int(peak[1]) * 1024 if peak else 0


class Run:
    """A child that is watched to its end."""

    def __init__(self, command, environment=None, log=None):
        self.start = time.monotonic()
        self.log = open(log, "w+") if log else None
        self.process = subprocess.Popen([str(word) for word in command], env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.log or subprocess.PIPE, text=True)
        self.cpu, self.peak, self.seconds = 0.0, 0, 0.0

    def look(self):
        """False once it has ended."""
        try:
            self.cpu, peak = used(self.process.pid)
            self.peak = max(self.peak, peak)
        except (OSError, IndexError):
            pass
        if self.process.poll() is None:
            return True
        self.seconds = self.seconds or time.monotonic() - self.start
        return False

    def ended(self, every=0.1):
        while self.look():
            time.sleep(every)
        return self.process.returncode == 0


def score(binary, folder, options):
    """The whole set by one process: memory, and the rate of each tenth."""
    run = Run([binary, "score", "-m", folder / "model", "-d", folder / "images.h5", "-o", folder / "whole.h5", "--force", "--metric", options.metric,
               "--progress", "json", "-v", "--batch", options.batch, *(["--limit", options.limit] if options.limit else [])])
    points, details = [], []
    for line in run.process.stderr:
        run.look()
        try:
            event = json.loads(line)
        except ValueError:
            details.append(line.strip())
            continue
        # The last line comes when the file is being checked already.
        if event.get("task") == "scoring" and event.get("phase") == "running":
            points.append((event["done"], event["elapsed"], run.cpu))
        elif "waiting for images" in line:
            details.append(line.strip())
    run.process.wait()
    run.look()
    total = points[-1][0] if points else 0
    tenths = []
    for tenth in range(10):
        lo, hi = (next((p for p in points if p[0] >= total * k / 10), points[-1]) for k in (tenth, tenth + 1))
        done, wall, cpu = (b - a for a, b in zip(lo, hi))
        tenths.append((done / wall if wall else 0, done / cpu if cpu else 0))
    told(folder, step="score", code=run.process.returncode, images=options.limit or COUNT, seconds=round(run.seconds, 1), cpu=round(run.cpu, 1), peak_mb=run.peak >> 20,
         rate_by_tenth=[round(r) for r, _ in tenths], rate_by_cpu=[round(r) for _, r in tenths],
         times=[d for d in details if "waiting for images" in d][-1:])


def million(binary, folder, options):
    """A result file of a million rows, whose page `report million.h5` then makes."""
    run = Run([binary, "score", "-m", folder / "model", "-d", folder / "images.h5", "--limit", ROWS, "-o", folder / "million.h5", "--force",
               "--metric", options.metric, "-q"], log=folder / "million.log")
    if not run.ended():
        raise SystemExit(f"score: exit code {run.process.returncode}, {folder / 'million.log'} says why")
    told(folder, step="million", rows=ROWS, seconds=round(run.seconds, 1), cpu=round(run.cpu, 1), peak_mb=run.peak >> 20,
         gb=round((folder / "million.h5").stat().st_size / 1e9, 2))


def report(binary, folder, options):
    # A name alone is that of a file of FOLDER, such as million.h5.
    file, page = folder / options.file, folder / "page.html"
    run = Run([binary, "report", file if file.exists() else options.file, "-o", page, "--force"])
    ok = run.ended(0.02)
    said = run.process.stderr.read().strip()
    size = page.stat().st_size if page.exists() else 0
    told(folder, step="report", file=file.name, ok=ok, said=said, seconds=round(run.seconds, 2), cpu=round(run.cpu, 2), peak_mb=run.peak >> 20, page_kb=size >> 10)


def clear(folder, stem):
    for old in folder.glob(f"{stem}.shard-*"):
        old.unlink()


def command(binary, folder, stem, options, *more):
    return [binary, "score", "-m", folder / "model", "-d", folder / "images.h5", "-o", folder / f"{stem}.h5", "--metric", options.metric, "--threads", "1",
            "--batch", options.batch, "--progress", "none", "-v", *(["--limit", options.limit] if options.limit else []), *more]


def rank(n):
    return {"RANK": str(n), "WORLD_SIZE": "2", "LOCAL_RANK": str(n), "OMP_NUM_THREADS": "1"}


def compare(a, b):
    """The largest difference of two result files, as a share of the largest value; the data sets that are equal bit for bit."""
    import h5py
    import numpy as np

    worst, equal, names = 0.0, 0, []
    with h5py.File(a) as one, h5py.File(b) as two:
        one.visititems(lambda name, x: names.append(name) if isinstance(x, h5py.Dataset) and name != "checksum" else None)
        for name in names:
            x, y = one[name][()], two[name][()]
            assert x.shape == y.shape and x.dtype == y.dtype, name
            if x.tobytes() == y.tobytes():
                equal += 1
            else:
                assert (np.isnan(x) == np.isnan(y)).all(), name
                worst = max(worst, float(np.nanmax(np.abs(x - y)) / np.nanmax(np.abs(x))))
    return {"data_sets": len(names), "bit_equal": equal, "largest_difference": worst}


def ranks(binary, folder, options):
    """The same set over two ranks, joined, against the single run."""
    clear(folder, "ranks")
    pinned = [Run(["taskset", "-c", n, *command(binary, folder, "ranks", options)], rank(n), folder / f"rank-{n}.log") for n in range(2)]
    while any([run.look() for run in pinned]):
        time.sleep(0.1)
    joined = Run([binary, "merge", *sorted(folder.glob("ranks.shard-*.h5")), "-o", folder / "joined.h5", "--force"])
    joined.ended(0.02)
    same = compare(folder / "whole.h5", folder / "joined.h5") if (folder / "whole.h5").exists() else None
    told(folder, step="ranks", codes=[r.process.returncode for r in pinned], seconds=[round(r.seconds, 1) for r in pinned], cpu=[round(r.cpu, 1) for r in pinned],
         peak_mb=[r.peak >> 20 for r in pinned], merge_seconds=round(joined.seconds, 2), merge_peak_mb=joined.peak >> 20, same=same)


def parts(log):
    """(parts that a rank did, parts in all) as its own line says."""
    found = re.search(r"(\d+) of (\d+) parts done here", pathlib.Path(log).read_text())
    return tuple(map(int, found.groups()))


def slow(binary, folder, options):
    """Two ranks on a core each, one of them stopped half of the time: how much longer than if both had ended at once."""
    for way in ("turn", "rank"):
        clear(folder, "slow")
        logs = [folder / f"slow-{n}.log" for n in range(2)]
        more = ["--shard", "rank"] if way == "rank" else []
        pinned = [Run(["taskset", "-c", n, *command(binary, folder, "slow", options, *more)], rank(n), logs[n]) for n in range(2)]
        victim, stopped = pinned[1], False
        # The slow rank's turns: half of each period, from its start to its end.
        while any([run.look() for run in pinned]):
            stopped = not stopped
            if victim.process.poll() is None:
                victim.process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
            time.sleep(options.period / 2)
        for run in pinned:
            assert run.process.returncode == 0, run.process.returncode
        shares = [parts(log)[0] for log in logs] if way == "turn" else [1, 1]
        times = [run.seconds for run in pinned]
        # At the ranks' own speeds, both end after `ideal` if the work is divided by these.
        ideal = sum(shares) / sum(share / t for share, t in zip(shares, times))
        told(folder, step="slow", way=way, shares=shares, seconds=[round(t, 1) for t in times], cpu=[round(r.cpu, 1) for r in pinned],
             over_ideal=round(max(times) / ideal, 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    steps = parser.add_subparsers(dest="step", required=True)
    made = steps.add_parser("set")
    made.add_argument("--count", type=int, default=COUNT)
    for name in ("score", "ranks", "slow"):
        step = steps.add_parser(name)
        step.add_argument("--limit", type=int, default=200_000 if name == "slow" else None)
        step.add_argument("--metric", default="stochastic")
        step.add_argument("--batch", default="auto" if name == "score" else "256")
        if name == "slow":
            step.add_argument("--period", type=float, default=0.2)
    steps.add_parser("million").add_argument("--metric", default="stochastic")
    steps.add_parser("report").add_argument("file")
    options = parser.parse_args()
    binary, folder = options.binary.resolve(), options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.step == "set":
        images(folder / "images.h5", options.count)
        (folder / "model.yaml").write_text(CONFIG)
        subprocess.run([binary, "train", "-c", folder / "model.yaml", "-o", folder / "model", "--force", "-q"], check=True)
        told(folder, step="set", images=options.count, gb=round((folder / "images.h5").stat().st_size / 1e9, 2))
    else:
        {"score": score, "million": million, "report": report, "ranks": ranks, "slow": slow}[options.step](binary, folder, options)


if __name__ == "__main__":
    sys.exit(main())
