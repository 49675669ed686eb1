"""The first half hour on a GPU: is it right, and where does the time go? Small steps, smallest first, each with a limit of time of its
own, each line stored as it comes; parts of gpu.py."""

import json
import re
import shutil
import statistics
import sys
from pathlib import Path

from gpu_journal import row
from gpu_processes import Late

HERE = Path(__file__).resolve().parent
# Modules of the tests whose bodies run on each device, the quickest first. tests/harness.rs looks for each, and for one that is missing.
MODULES = ["lane::", "replay::", "cli::on_cuda", "kernels::scores", "kernels::gram", "kernels::step", "kernels::solver", "kernels::eigh",
           "attack::run::the_device", "stem::", "jacobian::", "train::", "leading::", "golden::"]
# One small eigenproblem a kernel, under compute-sanitizer.
SANITIZED = "kernels::solver::spectra_are_the_same_by_every_solver"
# Largest difference between the devices, as a share of the largest value: twice what single precision promises of a spectrum; that
# of a loss after two epochs of Adam.
SPECTRA, LOSSES = 2e-4, 1e-3


def step(case, limit, work):
    """`work`'s row; where it fails, says so and lets the next one go on."""
    try:
        return work(limit)
    except (Late, RuntimeError, OSError, KeyError, ValueError) as error:
        return row(case, "pullback", note=f"FAILED: {str(error)[:200]}")


def told(setup, command, limit, hear=None, **more):
    """The lines of a command that succeeds, each stored as it comes, or told to `hear`."""
    code, lines = setup.processes.run(command, limit, hear=hear or setup.journal.say, environment=setup.environment, **more)
    if code:
        raise RuntimeError(f"exit code {code}: {lines[-1][:150] if lines else 'no word'}")
    return lines


def devices(setup):
    """The host and the device; in a rehearsal the host twice."""
    return ("cpu", setup.device)


def listed(setup, limit):
    told(setup, ["nvidia-smi"], limit)
    return row("nvidia-smi", "driver", note="as above")


def linked(setup, limit):
    lines = told(setup, ["ldd", setup.binary], limit)
    missing = [line.strip() for line in lines if "not found" in line]
    return row("libraries", "ldd", note=f"FAILED: {missing[0]}" if missing else "all found")


def versions(setup, limit):
    lines = told(setup, [setup.binary, "--version"], limit)
    devices = next((line for line in lines if line.startswith("CUDA devices")), "CUDA devices: none told")
    wrong = not setup.rehearse and devices.endswith(": 0")
    return row("--version", "pullback", note=("FAILED: " if wrong else "") + devices)


def scored(setup, limit):
    import h5py
    import numpy as np

    setup.prepare(64)
    found = []
    for i, device in enumerate(devices(setup)):
        file = Path(setup.folder) / f"scored-{i}.h5"
        told(setup, [setup.binary, "score", "-q", "--metric", "stochastic", "-m", setup.folder / "conv.pt", "-d", "strokes", "--limit", 64,
                     "--device", device, "-o", file], limit)
        with h5py.File(file) as f:
            found.append(f["spectrum/eigenvalues"][...])
    off = float((np.abs(found[0] - found[1]) / found[0][:, :1]).max())
    # `not <=`, so that NaN fails too.
    wrong = not off <= SPECTRA
    return row("64 strokes scored", f"{setup.device} and cpu",
               note=("DISAGREES: " if wrong else "") + f"largest difference {off:.1e} of lambda_1, {SPECTRA:g} allowed")


def attacked(setup, limit):
    setup.prepare(64)
    file = Path(setup.folder) / "attacked.h5"
    lines = told(setup, [setup.binary, "attack", "-v", "--attack", "pgd", "--steps", 8, "--eps", 1, "-m", setup.folder / "conv.pt", "-d",
                         "strokes", "--limit", 64, "--device", setup.device, "-o", file], limit)
    refused = [line for line in lines if "graph" in line.lower()]
    if refused and not setup.rehearse:
        return row("PGD of 8 steps", "pullback", note=f"FAILED: {refused[0].strip()[:150]}")
    return row("PGD of 8 steps", "pullback", note=refused[0].strip()[:150] if refused else "no word of a graph that was refused")


def tested(setup, module, executable, limit):
    """A row of one module of the tests; on one thread, for captures and memory belong to the device."""
    environment = {**setup.environment, "OMP_NUM_THREADS": "1", **({} if setup.rehearse else {"PULLBACK_REQUIRE_CUDA": "1"})}
    command = [executable, module, "--nocapture", "--test-threads=1"]
    code, lines = setup.processes.run(command, limit, hear=setup.hear, environment=environment, folder=setup.root)
    closing = next((line for line in reversed(lines) if line.startswith("test result")), f"exit code {code}, no result")
    skipped = not setup.rehearse and any("CUDA: skipped" in line for line in lines)
    none = re.search(r"\b0 passed", closing)
    if code or skipped or none:
        for line in lines[-40:]:
            setup.journal.say(f"    {line}")
        said = " no test of this name" if none and not code else " a CUDA test was SKIPPED" if skipped else ""
        return row(f"tests {module}", Path(executable).stem, note=f"FAILED:{said} {closing}")
    return row(f"tests {module}", Path(executable).stem, note=closing)


def tests(setup):
    """Every test whose body runs on each device."""
    modules = [(module, setup.tests) for module in (MODULES[:4] if setup.rehearse else MODULES)]
    for module, executable in [*modules, ("flow::", setup.units)]:
        yield step(f"tests {module}", 120, lambda limit: tested(setup, module, executable, limit))


def sanitized(setup, limit):
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return row("compute-sanitizer", "memcheck", note="not run: there is none here")
    told(setup, [tool, "--error-exitcode", 9, setup.tests, "--exact", SANITIZED, "--test-threads=1"], limit, folder=setup.root)
    return row("compute-sanitizer", "memcheck", note=f"no error in {SANITIZED}")


def trained(setup, limit):
    losses = []
    for i, device in enumerate(devices(setup)):
        run = Path(setup.folder) / f"trained-{i}"
        config = Path(setup.folder) / "train.yaml"
        config.write_text("data: {source: strokes, limit: %d}\nmodel: {kind: conv, channels: [32, 64], hidden: 256, latent: 16}\n"
                          "train: {epochs: 2, batch: 128, lr: 1e-3}\nseed: 42\n" % (256 if setup.rehearse else 4096))
        told(setup, [setup.binary, "train", "-v", "-c", config, "--device", device, "-o", run], limit)
        header, *epochs = (run / "history.csv").read_text().splitlines()
        at = header.split(",").index("loss")
        losses.append([float(line.split(",")[at]) for line in epochs])
    off = max(abs(a - b) / abs(a) for a, b in zip(*losses))
    wrong = not off <= LOSSES
    return row("two epochs of training", f"{setup.device} and cpu",
               note=("DISAGREES: " if wrong else "") + f"losses {losses[1]} and {losses[0]}, apart by {off:.1e}, {LOSSES:g} allowed")


def right(setup):
    """Step 1: is it right?"""
    if not setup.rehearse:
        yield step("nvidia-smi", 20, lambda limit: listed(setup, limit))
    yield step("libraries", 20, lambda limit: linked(setup, limit))
    yield step("--version", 60, lambda limit: versions(setup, limit))
    yield step("64 strokes scored", 90, lambda limit: scored(setup, limit))
    yield step("PGD of 8 steps", 60, lambda limit: attacked(setup, limit))
    for module in MODULES[:4]:
        yield step(f"tests {module}", 60, lambda limit: tested(setup, module, setup.tests, limit))
    yield step("two epochs of training", 90, lambda limit: trained(setup, limit))
    yield step("compute-sanitizer", 90, lambda limit: sanitized(setup, limit))


# --- step 2: where does the time go? ----------------------------------------------------------------------------------


def timed(setup, work, batch, limit):
    """A row a timing of pullback's own bench."""
    command = [setup.binary, "bench", "--model", setup.folder / "conv.pt", "--data", setup.folder / "images.h5", "--limit", batch, "--device",
               setup.device, "--metric", "stochastic", "--repeat", setup.sizes["repeat"], "--steps", setup.sizes["steps"], "--json",
               "--work", work, "-q"]
    lines = told(setup, command, limit, hear=setup.hear)
    timings = json.loads("\n".join(lines[next(i for i, line in enumerate(lines) if line.startswith("{")):]))["timings"]
    return [row(f"{t['work']}, {batch} images", "pullback", t["seconds"], note=t["pass"]) for t in timings]


def clocked(setup, limit):
    """gpu_clock.py, each operation of the Jacobian by itself: its rows are stored as they come."""

    def hear(line):
        if line.startswith("{"):
            f = json.loads(line)
            setup.journal.add(row(f["operation"], f["how"], f["seconds"], note=f["note"]))
        else:
            setup.journal.say(line)

    told(setup, [sys.executable, HERE / "gpu_clock.py", setup.device, 16 if setup.rehearse else 500], limit, hear=hear)
    return []


def longest(trace, count=30):
    """[(name, microseconds, launches)] of the kernels, or on a CPU of the operations, that took longest in all."""
    events = json.loads(Path(trace).read_text())["traceEvents"]
    kernels = [event for event in events if event.get("cat") == "kernel"] or [event for event in events if event.get("cat") == "cpu_op"]
    found = {}
    for event in kernels:
        time, launches = found.get(event["name"], (0, 0))
        found[event["name"]] = time + event.get("dur", 0), launches + 1
    return sorted(((name, *rest) for name, rest in found.items()), key=lambda f: -f[1])[:count]


def traced(setup, limit):
    trace, file = Path(setup.folder) / "first.json", Path(setup.folder) / "traced.h5"
    told(setup, [setup.binary, "score", "-v", "--metric", "stochastic", "-m", setup.folder / "conv.pt", "-d", setup.folder / "images.h5",
                 "--limit", setup.sizes["spectrum"], "--device", setup.device, "--trace", trace, "-o", file], limit)
    return [row("kernels of a score", f"{i + 1}.", [time / 1e6], note=f"{launches} times {name[:110]}")
            for i, (name, time, launches) in enumerate(longest(trace))]


def several(case, limit, work):
    found = step(case, limit, work)
    yield from found if isinstance(found, list) else [found]


def time(setup):
    """Step 2: where does the time go?"""
    small, large = setup.sizes["pgd"]
    setup.prepare(setup.sizes["spectrum"])
    for work, batch, limit in [("eigen", small, 40), ("search", small, 40), ("jacobian", small, 40), ("eigen", large, 60),
                               ("search", large, 60), ("jacobian", large, 60), ("spectrum", large, 60)]:
        yield from several(f"bench --work {work}, {batch}", limit, lambda limit: timed(setup, work, batch, limit))
    yield from several("operations by themselves", 90, lambda limit: clocked(setup, limit))
    yield from several("kernels of a score", 90, lambda limit: traced(setup, limit))
