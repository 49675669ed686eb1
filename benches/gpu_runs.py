"""What pullback's own commands do on the device, as a user runs them; parts of gpu.py.

traffic: bytes that came back from the device, by the profiler's count, against the bytes of the results.
fleet:   an epoch of 50 models trained together against an epoch of one.
"""

import csv
import json
import math
import statistics
from pathlib import Path

from gpu_journal import row

BETAS, ALLOWED = 50, 3.0
# Parts of what came back that must be results: flags and ranges are a few bytes a sample or a block.
RESULTS = dict(score=0.95, attack=0.9)
# Losses of a model trained among others and alone.
AGREEMENT = 1e-3


# Seconds that one command may take.
COMMAND = 200


def run(setup, *command):
    code, lines = setup.processes.run([setup.binary, *command], COMMAND, hear=setup.hear, environment=setup.environment)
    if code:
        raise RuntimeError(f"pullback {command[0]}: {lines[-1:]}")


def copies(trace):
    """{direction: (bytes, copies)} between host and device, by libtorch's profiler."""
    with open(trace) as file:
        events = json.load(file)["traceEvents"]
    found = {}
    for event in events:
        if event.get("cat") != "gpu_memcpy":
            continue
        for direction in ("DtoH", "HtoD"):
            if direction in event["name"]:
                size, count = found.get(direction, (0, 0))
                found[direction] = size + event["args"]["bytes"], count + 1
    return found, len(events)


def results(path):
    """Bytes of the results as they are stored, but of what was known before."""
    import h5py

    sizes = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: sizes.append(item.size * item.dtype.itemsize)
                        if isinstance(item, h5py.Dataset) and name not in ("index", "label", "eps") else None)
    return sum(sizes)


def traffic(setup):
    count = setup.sizes["spectrum"]
    setup.prepare(count)
    commands = dict(score=["--metric", "stochastic"], attack=["--attack", "pgd", "--eps", "1"])
    for name, extra in commands.items():
        case = f"{name}, {count} images: back to the host"
        trace, file = Path(setup.folder) / f"{name}.json", Path(setup.folder) / f"{name}-traffic.h5"
        run(setup, name, *extra, "-q", "--model", f"{setup.folder}/conv.pt", "--data", f"{setup.folder}/images.h5", "--limit",
            str(count), "--device", setup.device, "--trace", trace, "-o", file)
        found, events = copies(trace)
        wanted = results(file)
        back, times = found.get("DtoH", (0, 0))
        up = found.get("HtoD", (0, 0))[0]
        note = (f"{back} bytes in {times} copies, of which {wanted} are results; {up} bytes up" if back
                else f"no copies among the profiler's {events} events")
        yield row(case, "= results / all", None, wanted / back if back else None, RESULTS[name], note)


SWEEP = """
beta: {{logspace: {{start: -2, stop: 1, num: {models}}}}}
mixup: [0]
seeds: [42]
together: {together}
data: {{source: 'strokes', limit: {samples}}}
model: {{kind: mlp, hidden: [512, 256], latent: 16, activation: leaky_relu}}
train: {{epochs: {epochs}, batch: 128, lr: 1e-3, tf32: {tf32}}}
split: test
samples: 4
score: {{metrics: [mean]}}
attack: {{attacks: [{{kind: random}}], metric: mean, norm: l2, eps: [1]}}
measures: [latent_l2]
correlate: {{resamples: 100, level: 0.95}}
device: {device}
"""


def fleet(setup):
    yield from together(setup, "false", "MLP")
    yield from together(setup, "true", "MLP, TF32")


def together(setup, tf32, name):
    models, samples, epochs = (3, 256, 3) if setup.rehearse else (BETAS, 60_000, 6)
    case, seconds, losses = f"an epoch of {samples}, {name}", {}, {}
    for count in (1, models):
        folder = Path(setup.folder) / f"sweep-{count}-{tf32}"
        folder.with_suffix(".yaml").write_text(
            SWEEP.format(models=count, together=count if count > 1 else "off", samples=samples, epochs=epochs, tf32=tf32, device=setup.device))
        run(setup, "sweep", "-q", "-c", folder.with_suffix(".yaml"), "-o", folder)
        histories = [list(csv.DictReader(open(path))) for path in sorted(folder.glob("**/history.csv"))]
        if len(histories) != count:
            raise RuntimeError(f"{len(histories)} histories where {count} models were trained")
        # The first epoch pays for what is made once.
        seconds[count] = [sum(float(history[epoch]["seconds"]) for history in histories) for epoch in range(1, epochs)]
        losses[count] = {float(history[-1]["beta"]): float(history[-1]["loss"]) for history in histories}
        yield row(case, "one model" if count == 1 else f"{models} together", seconds[count])
    ((beta, alone),) = losses[1].items()
    near = min(losses[models], key=lambda other: abs(math.log(other / beta)))
    off = abs(losses[models][near] - alone) / alone
    ratio = statistics.median(seconds[models]) / statistics.median(seconds[1])
    said = f"{ratio:.2f} times one's, {ALLOWED:g} allowed; loss at beta = {beta:g} as alone to {off:.0e}"
    if not off <= AGREEMENT:
        said = f"DISAGREES by {off:.1e} with the model trained alone, {AGREEMENT:g} allowed"
    yield row(case, f"= {ALLOWED:g} x one / all", None, ALLOWED / ratio, 1, said)
