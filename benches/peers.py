"""The same spectra and attacks by others' ways and by ours: one table of ratios from one run.

    make peers                                  or: .venv/bin/python benches/peers.py --binary target/release/pullback

Peers, each in a process of its own on the same cores, weights (f32) and images: a plain loop of backward passes in
PyTorch, in both layouts of maps, the paper's authors' way, torch.func, JAX, and pullback. Every peer's eigenvalues must
agree to 1e-4 of lambda_1 before anything is timed, but for one image in a hundred, where rounding may decide on which
side of its kink a ReLU's unit lies; attacks start from other noise, so that only their mean damage must be alike. Repetitions are interleaved peer by peer, so that a busy spell of the machine falls
on all; medians are reported. The authors' way is timed on 16 images (it needs seconds), and pullback on the same 16.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOLERANCE = 1e-4
# What an image may differ by all the same, where a unit of a ReLU lies at its kink: one in a hundred.
KINK = 0.05
SLOW, SMALL, FULL, LARGE = 16, 64, 256, 2048

CONVOLUTIONS = ("conv", "mnist-conv", "burgess32", "burgess64", "pythae")
# The other forms that a model of ours has: TorchScript by tracing, and the folder of a run.
FORMS = ["pullback-traced", "pullback-trained"]

# (model, metric, batch, peers); the ratio of a peer is its median over pullback's at the same batch.
LOOPS = ["loop", "loop-nhwc"]
TIMED = [
    *((model, metric, FULL, [*LOOPS, "torch.func", "jax", *(FORMS if model == "mlp" else [])]) for metric in ("mean", "stochastic") for model in ("mlp", "conv")),
    ("mlp", "output", FULL, ["torch.func", "jax"]),
    ("conv", "output", FULL, ["torch.func", "jax"]),
    *(("mlp", metric, SLOW, ["authors"]) for metric in ("mean", "stochastic", "output")),
    # Convolutional encoders of others, and ours at other sizes.
    *(
        (
            model,
            metric,
            batch,
            [
                *LOOPS,
                *(["torch.func", "jax"] if model != "pythae" or batch <= SLOW else []),
                *(FORMS if model == "mnist-conv" else ["pullback-traced"] if batch == SMALL else []),
            ],
        )
        for model in CONVOLUTIONS
        for metric in ("mean", "stochastic")
        for batch in (1, SLOW, SMALL, FULL)
        if (model, batch) != ("conv", FULL)
    ),
    # An attack of 40 steps: the search alone by the loop, with all measures by pullback.
    *((model, "pgd", batch, LOOPS) for model in ("mlp", "burgess32", "pythae") for batch in (SMALL, FULL)),
]
# Least ratio promised, by (model, metric, peer).
TARGETS = {
    ("mlp", "mean", "authors"): 15,
    ("mlp", "stochastic", "authors"): 100,
    ("mlp", "output", "authors"): 150,
    ("mlp", "mean", "torch.func"): 1,
    ("mlp", "mean", "jax"): 1,
    ("mlp", "stochastic", "torch.func"): 1,
    ("mlp", "stochastic", "jax"): 1,
    # Behind nobody, anywhere.
    **{
        (model, metric, peer): 1
        for model in ("mlp", *CONVOLUTIONS)
        for metric in ("mean", "stochastic")
        for peer in (*LOOPS, "torch.func", "jax")
    },
    **{(model, "pgd", peer): 1.3 for model in ("mlp", "burgess32", "pythae") for peer in LOOPS},
}
# Of a convolutional encoder: so many times the best peer, or the floor over our time; either will do.
BEST, FLOOR = 2, 1 / 1.25
# Our peak memory over the lightest peer's: of a convolutional encoder.
LIGHT = 0.5
# The rate at a batch over the best rate at a smaller one.
KEPT = 0.9
# Peak memory at LARGE images over pullback's.
WEIGHED = [("mlp", "mean"), ("conv", "mean")]
MEMORY_TARGET = 2


# Passes through the encoder that a metric needs at least: one forward, and one backward of each row.
OPERATIONS = {"mean": lambda latent: 1 + latent, "stochastic": lambda latent: 1 + 2 * latent}
GEMM_OPERATIONS = 2 * 2048 * 1024 * 1024


class Peer:
    """A child process that repeats one pass on demand."""

    def __init__(self, name, model, metric, batch, setup):
        self.name = name
        command = [sys.executable, Path(__file__).with_name("peer.py"), name, model, metric, str(batch), setup.folder]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=setup.environment
        )
        self.seconds = []
        first = self.answer()
        self.eigenvalues, self.baseline = first["eigenvalues"], first["baseline"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: ended without an answer (exit code {self.process.wait()})")
        return json.loads(line)

    def repeat(self, count):
        """Runs `count` times; the peak size of the process so far above its baseline, in bytes."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.seconds += answer["seconds"]
        return answer["peak"] - self.baseline

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Setup:
    """Folder with models and images, and the environment that gives every peer the same cores."""

    def __init__(self, folder, binary, threads):
        self.folder = folder
        cores = sorted(os.sched_getaffinity(0))[:threads]
        # Children inherit the affinity: JAX has no thread count of its own to set.
        os.sched_setaffinity(0, cores)
        count = str(len(cores))
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "RAYON_NUM_THREADS": count,
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "PULLBACK": str(binary) if binary else "",
        }
        self.ours = ["pullback"] if binary else []
        self.threads = len(cores)
        # Seconds of the fastest reference product so far.
        self.gemm = float("inf")
        subprocess.run([sys.executable, Path(__file__).with_name("peer.py"), "prepare", folder], check=True)
        self.networks = json.loads((Path(folder) / "networks.json").read_text())


def check(peers, what):
    """Every peer's eigenvalues against the first's, as many as both report. Ends the run where they differ."""
    import numpy as np

    reference = np.load(peers[0].eigenvalues)
    worst = 0.0
    for peer in peers[1:]:
        values = np.load(peer.eigenvalues)
        count = min(reference.shape[1], values.shape[1])
        error = (np.abs(values[:, :count] - reference[:, :count]) / reference[:, :1]).max(1)
        # Rounding may put a ReLU's unit on the other side of its kink, in an image among hundreds, for any two peers.
        kinks = int(np.sum(error > TOLERANCE))
        # `not <=`, so that NaN fails too.
        if kinks > len(error) // 100 or not error.max() <= KINK:
            sys.exit(f"{what}: {peer.name} and {peers[0].name} differ by {error.max():.1e} of lambda_1, {kinks} images")
        if kinks:
            print(f"    {peer.name}: {kinks} of {len(error)} images differ by up to {error.max():.0e}", file=sys.stderr)
        worst = max(worst, float(np.quantile(error, 0.99)))
    return worst


def check_damage(peers, what):
    """Mean damage of every attack against the first's; 0, for there is no error to report. Ends the run where one is weaker."""
    import numpy as np

    means = {peer.name: float(np.load(peer.eigenvalues).mean()) for peer in peers}
    weakest, strongest = min(means, key=means.get), max(means, key=means.get)
    if not means[weakest] >= 0.95 * means[strongest]:
        sys.exit(f"{what}: {weakest} does {means[weakest]:.3f} of damage, {strongest} {means[strongest]:.3f}")
    return 0.0


def timed(setup, model, metric, batch, names, rounds, repeat):
    """Rows of the table for one case."""
    what = f"{model} {metric} B={batch}"
    print(f"... {what}", file=sys.stderr, flush=True)
    peers = [Peer(name, model, metric, batch, setup) for name in [*names, *setup.ours]]
    worst = check_damage(peers, what) if metric == "pgd" else check(peers, what)
    peers.append(Peer("gemm", model, metric, batch, setup))
    peaks = {}
    slow = names == ["authors"] or metric == "pgd" or (model == "pythae" and batch >= SMALL)
    repeat, rounds = 1 if slow else repeat, min(rounds, 3) if (model, metric) == ("pythae", "pgd") else rounds
    for turn in range(rounds):
        for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
            peaks[peer.name] = peer.repeat(repeat)
            time.sleep(0.05)
    for peer in peers:
        peer.close()
    medians = {peer.name: statistics.median(peer.seconds) for peer in peers}
    spread = {peer.name: (min(peer.seconds), max(peer.seconds)) for peer in peers}
    rows = []
    # One rate for all cases of a run, the best of them: a floor is not to fall with a busy moment.
    setup.gemm = min(setup.gemm, spread["gemm"][0])
    if metric in OPERATIONS:
        operations = 2 * setup.networks[model]["products"] * batch * OPERATIONS[metric](setup.networks[model]["latent"])
        # In products of the reference's size; `floored` makes seconds of it. The floor is judged with the peers: what is nearer to it than
        # 1.25 need not be twice the best.
        floor = operations / GEMM_OPERATIONS
        medians["floor"], spread["floor"], peaks["floor"] = floor, (floor, floor), 0
        names = [*names, "floor"]
    for name in [*names, *setup.ours]:
        ratio = medians[name] / medians["pullback"] if setup.ours else None
        rows.append(
            dict(case=what, model=model, metric=metric, batch=batch, peer=name, seconds=medians[name],
                 fastest=spread[name][0], slowest=spread[name][1], peak=peaks[name], ratio=ratio,
                 target=TARGETS.get((model, metric, name)), agreement=worst)
        )
    return rows


def floored(times, gemm):
    """The floors in seconds, by the rate of the product that took `gemm` seconds."""
    for row in times:
        if row["peer"] == "floor":
            row["seconds"] *= gemm
            row["fastest"] = row["slowest"] = row["seconds"]
            ours = [r["seconds"] for r in times if r["case"] == row["case"] and r["peer"] == "pullback"]
            row["ratio"] = row["seconds"] / ours[0] if ours else None


def weighed(setup, model, metric):
    """Rows of the memory table: peak above the process after imports and loading, at LARGE images."""
    rows = []
    for name in ["torch.func", "jax", *setup.ours]:
        peer = Peer(name, model, metric, LARGE, setup)
        rows.append(dict(case=f"{model} {metric} B={LARGE}", peer=name, bytes=peer.repeat(1)))
        peer.close()
    ours = rows[-1]["bytes"] if setup.ours else None
    for row in rows:
        row["ratio"] = row["bytes"] / ours if ours else None
        row["target"] = MEMORY_TARGET if row["peer"] == "torch.func" else None
    return rows


def verdict(row):
    if row["ratio"] is None or row["target"] is None:
        return ""
    return "met" if row["ratio"] >= row["target"] else "MISSED"


def number(value, form):
    return "" if value is None else format(value, form)


def show(times, memory):
    header = f"{'case':26s} {'peer':12s} {'median ms':>10s} {'fastest':>9s} {'slowest':>9s} {'peak MiB':>9s} {'x pullback':>11s} {'target':>7s}"
    print(header)
    for r in times:
        print(f"{r['case']:26s} {r['peer']:12s} {1e3 * r['seconds']:10.1f} {1e3 * r['fastest']:9.1f} "
              f"{1e3 * r['slowest']:9.1f} {r['peak'] / 2**20:9.0f} {number(r['ratio'], '.2f'):>11s} {number(r['target'], 'g'):>7s} {verdict(r)}")
    print(f"\n{'peak memory':26s} {'peer':12s} {'MiB':>10s} {'':19s} {'x pullback':>11s} {'target':>7s}")
    for r in memory:
        print(f"{r['case']:26s} {r['peer']:12s} {r['bytes'] / 2**20:10.0f} {'':19s} "
              f"{number(r['ratio'], '.2f'):>11s} {number(r['target'], 'g'):>7s} {verdict(r)}")


def summed_up(times):
    """Of each case of a convolutional encoder: the best peer, how many times faster than it pullback is, and its distance from the floor."""
    rows = []
    for case in dict.fromkeys(row["case"] for row in times):
        of = {row["peer"]: row for row in times if row["case"] == case}
        if "floor" not in of or of["floor"]["model"] not in CONVOLUTIONS or "pullback" not in of:
            continue
        peers = [row for row in of.values() if not row["peer"].startswith(("pullback", "floor", "authors"))]
        best, ours = min(peers, key=lambda row: row["seconds"]), of["pullback"]
        # A peer that tried several chunks has no peak of its own.
        lean = min((row["peak"] for row in peers if row["peak"] > 0), default=0)
        lead, distance = best["seconds"] / ours["seconds"], ours["seconds"] / of["floor"]["seconds"]
        met = lead >= BEST or 1 / distance >= FLOOR
        rows.append(dict(case=case, ours=ours["seconds"], best=best["peer"], seconds=best["seconds"], lead=lead,
                         floor=of["floor"]["seconds"], distance=distance, met=met,
                         peak=ours["peak"], lightest=lean, light=ours["peak"] <= LIGHT * lean if lean else None))
    return rows


def rates(times):
    """Of each network and metric: pullback's images a second by batch, and whether none is much below that of a smaller batch."""
    rows = []
    ours = [row for row in times if row["peer"] == "pullback" and row["model"] in CONVOLUTIONS and row["metric"] in OPERATIONS]
    for model, metric in dict.fromkeys((row["model"], row["metric"]) for row in ours):
        by_batch = {row["batch"]: row["batch"] / row["seconds"] for row in ours if (row["model"], row["metric"]) == (model, metric)}
        batches = sorted(by_batch)
        kept = min((by_batch[batch] / max(by_batch[b] for b in batches if b < batch) for batch in batches[1:]), default=None)
        rows.append(dict(case=f"{model} {metric}", rates={batch: by_batch[batch] for batch in batches}, kept=kept,
                         met=kept is None or kept >= KEPT))
    return rows


def show_sums(rows):
    print(f"\n{'case':26s} {'pullback ms':>11s} {'best peer':>10s} {'ms':>9s} {'lead':>6s} {'floor ms':>9s} {'over floor':>10s} "
          f"{'MiB':>6s} {'lightest':>8s}  {f'lead {BEST} or floor {1 / FLOOR}':20s} {LIGHT:g} of the lightest's memory")
    for r in rows:
        print(f"{r['case']:26s} {1e3 * r['ours']:11.1f} {r['best']:>10s} {1e3 * r['seconds']:9.1f} {r['lead']:6.2f} {1e3 * r['floor']:9.1f} "
              f"{r['distance']:10.2f} {r['peak'] / 2**20:6.0f} {r['lightest'] / 2**20:8.0f}  {'met' if r['met'] else 'MISSED':20s} "
              f"{'' if r['light'] is None else 'met' if r['light'] else 'MISSED'}")


def show_rates(rows):
    print(f"\n{'pullback':26s} images a second at each batch; least over the best of a smaller batch (at least {KEPT})")
    for r in rows:
        shown = "  ".join(f"B={batch} {rate:.0f}" for batch, rate in r["rates"].items())
        print(f"{r['case']:26s} {shown}; {number(r['kept'], '.2f')} {'met' if r['met'] else 'MISSED'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="pullback's release binary; without it the peers are timed alone")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of a peer within a round")
    parser.add_argument("--only", nargs="*", default=[""], help="cases that contain one of these texts, such as 'conv mean' 'mlp pgd B=64 '")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    if options.binary and not options.binary.is_file():
        sys.exit(f"--binary {options.binary}: no such file")
    chosen = lambda model, metric, batch: any(text in f"{model} {metric} B={batch} " for text in options.only)
    # However a run is stopped, the tables of the cases that are measured follow.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stopped = False
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(folder, options.binary and options.binary.resolve(), options.threads)
        times, memory = [], []
        try:
            for model, metric, batch, names in TIMED:
                if chosen(model, metric, batch):
                    rows = timed(setup, model, metric, batch, names, options.rounds, options.repeat)
                    for r in rows:
                        if r["peer"] != "floor":
                            print(f"    {r['peer']:16s} {1e3 * r['seconds']:10.1f} ms, {number(r['ratio'], '.2f')} x pullback", file=sys.stderr, flush=True)
                    times += rows
            for model, metric in [] if options.no_memory else WEIGHED:
                if chosen(model, metric, LARGE):
                    memory += weighed(setup, model, metric)
        except KeyboardInterrupt:
            stopped = True
            print("... stopped: the tables have the cases that were measured", file=sys.stderr, flush=True)
    floored(times, setup.gemm)
    print(f"{platform.machine()}, {setup.threads} threads, {options.rounds} rounds; "
          f"eigenvalues agree to {max((r['agreement'] for r in times), default=0):.0e} of lambda_1\n")
    show(times, memory)
    sums = summed_up(times)
    show_sums(sums)
    by_batch = rates(times)
    show_rates(by_batch)
    if options.json:
        options.json.write_text(json.dumps(dict(threads=setup.threads, times=times, memory=memory, sums=sums, rates=by_batch), indent=1))
    if any(verdict(row) == "MISSED" for row in times + memory) or not all(row["met"] and row.get("light") is not False for row in sums + by_batch):
        sys.exit(1)
    if stopped:
        sys.exit(130)


if __name__ == "__main__":
    main()
