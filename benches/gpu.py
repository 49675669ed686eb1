"""The tests and the benches on a CUDA machine, in parts of under 8 minutes: `make gpu`, from a checkout or from what
`make gpu-bundle` packed.

    python3 benches/gpu.py --only first       is it right, and where does the time go (= right,time): begin with this
    python3 benches/gpu.py --only eigen,pgd   these parts; --peers jax,torch.eigh: only these peers in them
    python3 benches/gpu.py                    all parts; needs torch 2.11 with CUDA, h5py; JAX and CuPy where they are compared
    python3 benches/gpu.py --rehearse         every line of this at tiny sizes on the CPU: its figures mean nothing

Each row is printed and stored as soon as it is known, in DATE-gpu.txt and .jsonl of the output folder, behind what was stored there
before. A part that has had its time is cut off and says so; INT, TERM and HUP end everything that was started within
seconds and lose no row. Exit code 0: all that ran is right and no target was missed; 1: not so; 2: no CUDA device; 128 + N: stopped by
signal N.
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu_compare
import gpu_first
import gpu_runs
from gpu_journal import Journal, row
from gpu_processes import Late, Processes, Stopped, listen

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
SIZES = dict(spectrum=10_000, eigen=10_000, pgd=(64, 4096), steps=40, repeat=10)
TINY = dict(spectrum=12, eigen=12, pgd=(2, 4), steps=3, repeat=2)
# Smallest step first.
PARTS = dict(right=gpu_first.right, time=gpu_first.time, tests=gpu_first.tests, eigen=gpu_compare.eigen, pgd=gpu_compare.pgd,
             spectrum=gpu_compare.spectrum, traffic=gpu_runs.traffic, fleet=gpu_runs.fleet)
NAMES = dict(first=("right", "time"), **{name: (name,) for name in PARTS})
# Seconds of a part.
LIMIT = 450


class Setup:
    """What parts need to know: the programs, the device, sizes, a folder for files that are thrown away."""

    def __init__(self, options, folder, processes, journal):
        import torch

        self.folder, self.root, self.rehearse, self.peers = Path(folder), ROOT, options.rehearse, options.peers
        self.binary, self.tests, self.units = options.binary, options.tests, options.units
        self.processes, self.journal, self.prepared = processes, journal, None
        self.device = "cpu" if options.rehearse else "cuda"
        self.sizes = TINY if options.rehearse else SIZES
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(libraries(Path(torch.__file__).parent, os.environ.get("LD_LIBRARY_PATH"))),
            "PULLBACK": str(options.binary),
            "PULLBACK_BINARY": str(options.binary),
            "PULLBACK_TESTS_ROOT": str(ROOT),
            "PULLBACK_PYTHON": sys.executable,
            "PYTHONUNBUFFERED": "1",
            # Else JAX takes three quarters of the memory at its start.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **({"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if options.rehearse else {}),
        }
        self.environment.pop("PULLBACK_REQUIRE_CUDA", None)

    def hear(self, line):
        """Shown, not stored: the closing line of what talks much is in its row."""
        print(f"    {line}", file=sys.stderr, flush=True)

    def prepare(self, images, matrices=0):
        """Writes the model, so many images and so many Gram matrices, where they are not there."""
        if self.prepared and self.prepared[0] >= images and self.prepared[1] >= matrices:
            return
        code, lines = self.processes.run([sys.executable, HERE / "gpu_peer.py", "prepare", images, self.folder, self.device, matrices], 120,
                                         environment=self.environment)
        if code:
            raise RuntimeError(f"prepare: {lines[-1:]}")
        self.prepared = images, matrices


def libraries(torch, others):
    """Where the loader looks: libtorch, and the CUDA libraries of PyPI beside it, those that others open by name included."""
    beside = [torch.parent / "nvidia" / name / "lib" for name in ("cu13", "cudnn", "nccl", "nvshmem", "cusparselt")]
    return [str(path) for path in [torch / "lib", *beside] if path.is_dir()] + [path for path in [others] if path]


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


def names(text):
    """The parts that a list of names means, in their order, each once."""
    asked = [name for name in text.split(",") if name]
    unknown = [name for name in asked if name not in NAMES]
    if unknown or not asked:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(NAMES)}, found {text!r}")
    wanted = {part for name in asked for part in NAMES[name]}
    return [part for part in PARTS if part in wanted]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether there is a CUDA device")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU; nothing is judged")
    parser.add_argument("--only", type=names, default=list(PARTS), help=f"these parts, with commas between: {', '.join(NAMES)}")
    parser.add_argument("--peers", type=lambda text: text.split(","), help="only these peers, with commas between")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds of a part ({LIMIT})")
    parser.add_argument("--binary", type=Path, default=ROOT / "pullback")
    parser.add_argument("--tests", type=Path, default=ROOT / "tests-executable")
    parser.add_argument("--units", type=Path, default=ROOT / "units-executable")
    parser.add_argument("--output", type=Path, default=Path("gpu-results"), help="folder of the table and raw numbers")
    options = parser.parse_args()
    missing = None if options.rehearse else no_device(asks_torch=not options.check)
    if missing:
        print(f"make gpu: {missing}; REHEARSE=1 runs every line at tiny sizes on the CPU", file=sys.stderr)
        sys.exit(2)
    if options.check:
        return
    for name in ("binary", "tests", "units"):
        path = getattr(options, name)
        if not path.is_file() or not shutil.which(path.resolve()):
            sys.exit(f"{path}: no such program (make gpu-bundle makes it)")
        setattr(options, name, path.resolve())
    sys.exit(run(options))


def run(options):
    stem = f"{datetime.date.today().isoformat()}-{'rehearsal' if options.rehearse else 'gpu'}"
    journal, processes, left = Journal(options.output, stem, judges=not options.rehearse), Processes(), list(options.only)
    listen()
    try:
        with tempfile.TemporaryDirectory() as folder:
            setup = Setup(options, folder, processes, journal)
            facts = versions(setup, options)
            if options.rehearse:
                journal.say("REHEARSAL on the CPU at tiny sizes: no figure below means anything, no target is judged.")
            for name, value in facts.items():
                journal.say(f"{name}: {value}")
            journal.note(facts=facts)
            if not facts["pullback"]:
                journal.say(f"{options.binary} does not run with the libtorch of torch {facts['torch']}")
                return 1
            journal.say("ratio: the peer's median over pullback's, unless the note says otherwise")
            while left:
                part(setup, left[0], options.limit)
                left.pop(0)
    except Stopped as stopped:
        journal.say(f"STOPPED by {stopped}: {', '.join(left)} not finished; all rows above are stored")
        return 128 + stopped.number
    finally:
        processes.end_all()
        print(f"{journal.stem}.txt, .jsonl", flush=True)
    return 1 if journal.failed() else 0


def part(setup, name, limit):
    """Runs one part; each of its rows is stored as it comes, and so is what ended it early."""
    journal, began = setup.journal, time.monotonic()
    setup.processes.may_take(limit)
    journal.begin(name, limit)
    try:
        for r in PARTS[name](setup):
            journal.add(r)
    except Late as late:
        journal.add(row(name, "", note=f"CUT OFF: {late}"))
    except (gpu_compare.Failed, RuntimeError, OSError, KeyError) as error:
        journal.add(row(name, "pullback", note=f"FAILED: {error}"))
    finally:
        setup.processes.end_all()
    journal.say(f"--- {name} took {time.monotonic() - began:.0f} s")
    journal.say()


if __name__ == "__main__":
    main()
