"""The tests and the benches on a CUDA machine: `make gpu`, from a checkout or from what `make gpu-bundle` packed.

    python3 benches/gpu.py                    needs torch 2.11 with CUDA, h5py; JAX and CuPy where they are to be compared
    python3 benches/gpu.py --rehearse         every line of this at tiny sizes on the CPU: its figures mean nothing

First the whole test suite with PULLBACK_REQUIRE_CUDA=1 (a skip is a failure), then each piece of work by pullback and by
its peers, a process each, one after the other. A peer's result must agree with pullback's before its clock counts. What
a peer cannot do is said in its row. Exit code 0: tests passed, all agree, no target missed.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import gpu_runs

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
# Rows of the stochastic metric and pixels: gpu_peer.LATENT, and 28 x 28.
ROWS, PIXELS = 64, 784
# Share of lambda_1 by which eigenvalues may differ (Jacobians are in single precision), and share of the mean damage.
SPECTRA, DAMAGE = 1e-4, 0.03
# Level within the noise of such a run.
LEVEL = 0.95
SIZES = dict(spectrum=10_000, eigen=10_000, pgd=(64, 4096), steps=40, repeat=10)
TINY = dict(spectrum=12, eigen=12, pgd=(2, 4), steps=3, repeat=2)


class Failed(Exception):
    pass


class Peer:
    """A child process that repeats one piece of work on demand."""

    def __init__(self, setup, name, work, batch):
        command = [sys.executable, HERE / "gpu_peer.py", name, work, str(batch), str(setup.sizes["steps"]), setup.folder,
                   setup.device]
        self.complaints = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints,
                                        text=True, env=setup.environment)
        first = self.answer()
        self.result, self.note = first["result"], first["note"]

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        self.complaints.seek(0)
        said = [line for line in self.complaints.read().splitlines() if line.strip()]
        said = [line for line in said if "Error" in line] or said
        raise Failed(said[-1][:160] if said else f"exit code {self.process.returncode}")

    def repeat(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.note = answer["note"]
        return answer["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Setup:
    def __init__(self, options, folder):
        import torch

        self.folder, self.rehearse, self.binary = folder, options.rehearse, options.binary
        self.device = "cpu" if options.rehearse else "cuda"
        self.sizes = TINY if options.rehearse else SIZES
        library = Path(torch.__file__).parent / "lib"
        paths = [str(library)] + [path for path in [os.environ.get("LD_LIBRARY_PATH")] if path]
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(paths),
            "PULLBACK": str(options.binary),
            "PULLBACK_BINARY": str(options.binary),
            "PULLBACK_TESTS_ROOT": str(ROOT),
            "PULLBACK_PYTHON": sys.executable,
            # Else JAX takes three quarters of the memory at its start.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **({"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if options.rehearse else {}),
        }


def row(case, peer, seconds=None, ratio=None, target=None, note=""):
    return dict(case=case, peer=peer, median=statistics.median(seconds) if seconds else None, seconds=seconds,
                ratio=ratio, target=target, note=note)


def compared(setup, case, work, batch, peers, agrees):
    """({name of pullback's timing: seconds}, pullback's note, [(peer, seconds or None, note)]), results compared first."""
    print(f"... {case}", file=sys.stderr, flush=True)
    ours = Peer(setup, "pullback", work, batch)
    timings = ours.repeat(setup.sizes["repeat"])
    ours.close()
    others = []
    for name in peers:
        print(f"    {name}", file=sys.stderr, flush=True)
        try:
            peer = Peer(setup, name, work, batch)
            off, allowed = agrees(ours.result, peer.result)
            # `not <=`, so that NaN fails too.
            if not off <= allowed:
                peer.close()
                others.append((name, None, f"DISAGREES by {off:.1e}, {allowed:g} allowed"))
                continue
            seconds = peer.repeat(setup.sizes["repeat"] if not name.startswith("torch.eig") else 3)
            others.append((name, seconds, f"agrees to {off:.0e}" + (f", {peer.note}" if peer.note else "")))
            peer.close()
        except Failed as error:
            others.append((name, None, f"not run: {error}"))
    return timings, ours.note, others


def eigenvalues_agree(ours, theirs):
    import numpy as np

    a, b = np.load(ours), np.load(theirs)
    return float((np.abs(a - b) / a[:, :1]).max()), SPECTRA


def damage_agrees(setup, batch):
    """By one formula for all: the mean of |mu(x') - mu(x)|; an image outside ball or box is infinitely wrong."""
    import numpy as np
    import torch
    from gpu_peer import EPSILON, LATENT, load_images, torch_model

    model, x0 = torch_model("conv", LATENT), torch.from_numpy(load_images(Path(setup.folder), batch))

    def damage(file):
        x = torch.from_numpy(np.load(file)).float().view_as(x0)
        size = (x - x0).flatten(1).norm(dim=1).max()
        if size > EPSILON * 1.001 or x.min() < 0 or x.max() > 1:
            return float("nan")
        return float((model.encode(x)[0] - model.encode(x0)[0]).norm(dim=1).mean())

    def agrees(ours, theirs):
        a, b = damage(ours), damage(theirs)
        # Random starts: a handful of images differ by more than thousands do.
        return abs(a - b) / abs(a), DAMAGE if batch >= 64 else 10 * DAMAGE

    return agrees


def best(others, names=None):
    times = [statistics.median(s) for name, s, _ in others if s and (names is None or name in names)]
    return min(times) if times else None


def against(case, others, ours, targets):
    return [row(case, name, seconds, statistics.median(seconds) / ours if seconds else None, targets.get(name), note)
            for name, seconds, note in others]


def ceiling(setup, what):
    peer = Peer(setup, what, "ceilings", 1)
    seconds = statistics.median(peer.repeat(setup.sizes["repeat"]))
    rate = float(peer.note) / seconds
    peer.close()
    return rate


def jacobian_floor(images, gemm, copy):
    """Seconds below which images to factors cannot go, by the slower of operations over the GEMM's rate and bytes over the
    copy's. Operations: R rows go back through the two convolutions (2 x products each: 64 -> 32 on 7 x 7 and 32 -> 1 on
    14 x 14, kernels 4 x 4; the heads' rows are their weights) and the images once forward. Bytes: the images in, the
    factors out; what lies between could stay on the chip."""
    back = 2 * 16 * (64 * 32 * 49 + 32 * 196)
    forward = back + 2 * 3136 * ROWS
    return max(images * (ROWS * back + forward) / gemm, images * 4 * PIXELS * (ROWS + 1) / copy)


def spectrum(setup, gemm, copy):
    count = setup.sizes["spectrum"]
    case = f"conv, 2L = {ROWS}, {count} images"
    timings, note, others = compared(setup, case, "spectrum", count, ["torch.func", "torch.compile", "jax"],
                                     eigenvalues_agree)
    whole, jacobian = timings["spectrum of stochastic"], timings["jacobian of stochastic"]
    ours = statistics.median(whole)
    rows = [row(case, "pullback", whole, note=note)] + against(case, others, ours, {})
    first = best(others)
    rows.append(row(case, "= best peer", None, first / ours if first else None, 3, "Jacobian + eigenvalues"))
    rows.append(row(case, "= 0.5 s / ours", None, 0.5 / ours, 1, "below 0.5 s in all"))
    share = jacobian_floor(count, gemm, copy) / statistics.median(jacobian)
    rows.append(row(case, "= roofline", jacobian, share, 0.6, "share of it that the Jacobian alone reaches"))
    return rows


def eigen(setup, *_):
    count = setup.sizes["eigen"]
    case = f"{ROWS} x {ROWS} x {count} eigenvalues"
    peers = ["torch.eigh", "torch.eigvalsh", "cupy.eigh", "cupy.eigvalsh", "jax"]
    timings, note, others = compared(setup, case, "eigen", count, peers, eigenvalues_agree)
    mine = {name.split(" by ")[1]: seconds for name, seconds in timings.items()}
    chosen = next((name for name in mine if f"by {name}: order {ROWS}, the engine's choice" in note), "reduction")
    ours = statistics.median(mine[chosen])
    rows = [row(case, "pullback", mine[chosen], note=f"{chosen}, double, results within 1e-9 of LAPACK")]
    for name, seconds in mine.items():
        if name != chosen:
            target = LEVEL if name == "cuSOLVER" else None
            rows.append(row(case, f"({name})", seconds, statistics.median(seconds) / ours, target, "called by pullback"))
    if "cuSOLVER" not in mine:
        rows.append(row(case, "(cuSOLVER)", None, None, LEVEL, "not run: no cusolverDnXsyevBatched here"))
    return rows + against(case, others, ours, {"torch.eigh": 50})


def pgd(setup, *_):
    rows = []
    # `never behind torch.compile with graphs` at both sizes.
    targets = [{"torch.eager": 5, "torch.compile": LEVEL}, {"torch.eager": 1.5, "torch.compile": LEVEL}]
    for batch, target in zip(setup.sizes["pgd"], targets):
        case = f"PGD, {setup.sizes['steps']} steps, B = {batch}"
        timings, _, others = compared(setup, case, "pgd", batch, ["torch.eager", "torch.compile", "jax"],
                                         damage_agrees(setup, batch))
        # The search is what the peers do; `pgd` measures the attacked images too.
        seconds, judged = (timings[f"{of}pgd, {setup.sizes['steps']} steps"] for of in ("search of ", ""))
        rows.append(row(case, "pullback", seconds))
        rows.append(row(case, "(judged)", judged, statistics.median(judged) / statistics.median(seconds), None,
                        "pullback with all measures of the attacked images"))
        rows += against(case, others, statistics.median(seconds), target)
    return rows


def of_runs(part):
    return lambda setup, *_: list(part(setup, row))


CASES = dict(spectrum=spectrum, eigen=eigen, pgd=pgd, traffic=of_runs(gpu_runs.traffic), fleet=of_runs(gpu_runs.fleet))


def tests(setup, executable):
    """Runs the suite; (passed, closing line)."""
    environment = {**setup.environment, "OMP_NUM_THREADS": "1"}
    command = [executable]
    if setup.rehearse:
        command += ["kernels::", "own_cases_in_f32", "spectrum"]
        environment.pop("PULLBACK_REQUIRE_CUDA", None)
    else:
        command += ["--nocapture"]
        environment["PULLBACK_REQUIRE_CUDA"] = "1"
    print("... tests", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    closing = next((line for line in reversed(done.stdout.splitlines()) if line.startswith("test result")), "no result")
    skipped = not setup.rehearse and "CUDA: skipped" in done.stdout
    if done.returncode or skipped:
        print(done.stdout[-8000:], file=sys.stderr)
    others = sorted({line.strip() for line in done.stdout.splitlines() if "skipped" in line and "CUDA" not in line})
    passed = done.returncode == 0 and not skipped
    return passed, closing + (", a CUDA test was SKIPPED" if skipped else ""), others


def verdict(setup, r):
    if r["target"] is None or setup.rehearse:
        return ""
    if r["ratio"] is None:
        return "NOT JUDGED"
    return "met" if r["ratio"] >= r["target"] else "MISSED"


def text_of(number, form):
    return "" if number is None else format(number, form)


def table(setup, rows):
    lines = [f"{'work':36s} {'by':16s} {'median ms':>11s} {'fastest':>11s} {'ratio':>9s} {'target':>7s}"]
    for r in rows:
        ms = [text_of(1e3 * s if s is not None else None, ".3f")
              for s in (r["median"], min(r["seconds"]) if r["seconds"] else None)]
        lines.append(f"{r['case']:36s} {r['peer']:16s} {ms[0]:>11s} {ms[1]:>11s} {text_of(r['ratio'], '.2f'):>9s} "
                     f"{text_of(r['target'], 'g'):>7s} {verdict(setup, r):10s} {r['note']}".rstrip())
    return lines


def said(command, environment=None):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions(setup, options):
    from importlib import metadata

    def version(names):
        for name in names:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                pass
        return "absent"

    commit = ROOT / "COMMIT"
    stamp = commit.read_text().strip() if commit.is_file() else said(["git", "-C", ROOT, "describe", "--always", "--dirty"])
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": stamp or "unknown",
        "device": setup.device if setup.rehearse else said(query),
        "host": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "pullback": said([options.binary, "--version"], setup.environment).replace("\n", "; "),
        "python": platform.python_version(),
        "torch": version(["torch"]),
        "jax": version(["jax"]),
        "cupy": version(["cupy-cuda13x", "cupy-cuda12x", "cupy"]),
    }


def no_device(asks_torch):
    """Why there is no CUDA device to run on; None where there is one. A checkout's torch may not be installed yet."""
    if not said(["nvidia-smi", "-L"]):
        return "no CUDA device here (nvidia-smi lists none)"
    if not asks_torch:
        return None
    try:
        import torch
    except ImportError:
        return f"{sys.executable} has no torch"
    if not torch.cuda.is_available():
        return f"the torch {torch.__version__} of {sys.executable} sees no CUDA device"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether there is a CUDA device")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU; nothing is judged")
    parser.add_argument("--only", choices=["tests", *CASES], help="this part alone")
    parser.add_argument("--binary", type=Path, default=ROOT / "pullback")
    parser.add_argument("--tests", type=Path, default=ROOT / "tests-executable")
    parser.add_argument("--output", type=Path, default=Path("gpu-results"), help="folder of the table and raw numbers")
    options = parser.parse_args()
    missing = None if options.rehearse else no_device(asks_torch=not options.check)
    if missing:
        print(f"make gpu: {missing}; REHEARSE=1 runs every line at tiny sizes on the CPU", file=sys.stderr)
        sys.exit(2)
    if options.check:
        return
    for path in (options.binary, options.tests):
        if not path.is_file() or not shutil.which(path.resolve()):
            sys.exit(f"{path}: no such program (make gpu-bundle makes it)")
    options.binary, options.tests = options.binary.resolve(), options.tests.resolve()
    sys.exit(run(options))


def run(options):
    failed, rows, lines = False, [], []
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(options, folder)
        facts = versions(setup, options)
        if not facts["pullback"]:
            sys.exit(f"{options.binary} does not run with the libtorch of torch {facts['torch']}")
        if setup.rehearse:
            lines += ["REHEARSAL on the CPU at tiny sizes: no figure below means anything, no target is judged.", ""]
        lines += [f"{name}: {value}" for name, value in facts.items()] + [""]
        if options.only in (None, "tests"):
            passed, closing, skipped = tests(setup, options.tests)
            failed |= not passed
            lines += [f"tests{'' if setup.rehearse else ' with PULLBACK_REQUIRE_CUDA=1'}: {closing}"]
            lines += [f"  {line}" for line in skipped] + [""]
        cases = [name for name in CASES if options.only in (None, name)]
        rates = {}
        if cases:
            count = max(setup.sizes["spectrum"], *setup.sizes["pgd"])
            subprocess.run([sys.executable, HERE / "gpu_peer.py", "prepare", str(count), folder, setup.device,
                            str(setup.sizes["eigen"])], check=True, env=setup.environment)
            rates = {what: ceiling(setup, what) for what in ("gemm", "copy")}
            lines += [f"ceilings of this run: GEMM in single precision (TF32 off) {rates['gemm'] / 1e12:.2f} TFlop/s, "
                      f"copy {rates['copy'] / 1e9:.0f} GB/s read and written", ""]
        for name in cases:
            try:
                rows += CASES[name](setup, rates["gemm"], rates["copy"])
            except (Failed, RuntimeError) as error:
                rows.append(row(name, "pullback", note=f"FAILED: {error}"))
    if rows:
        lines += ["ratio: the peer's median over pullback's, unless the note says otherwise"] + table(setup, rows)
    wrong = [r for r in rows if "DISAGREES" in r["note"] or "FAILED" in r["note"]]
    missed = [r for r in rows if verdict(setup, r) == "MISSED"]
    if setup.rehearse:
        lines += ["", "REHEARSAL: see the first line."]
    text = "\n".join(lines) + "\n"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    stem = f"{facts['date']}-{'rehearsal' if setup.rehearse else 'gpu'}" + (f"-{options.only}" if options.only else "")
    (options.output / f"{stem}.txt").write_text(text)
    (options.output / f"{stem}.json").write_text(json.dumps(dict(facts=facts, ceilings=rates, rows=rows), indent=1) + "\n")
    print(f"{options.output / stem}.txt, .json")
    return 1 if failed or wrong or missed else 0


if __name__ == "__main__":
    main()
