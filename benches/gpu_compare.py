"""Pullback against its peers on one piece of work after another; parts of gpu.py. A process each, one after the other; a peer's
result must agree with pullback's before its clock counts."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from gpu_journal import row
from gpu_processes import Late

HERE = Path(__file__).resolve().parent
# Rows of the stochastic metric and pixels: gpu_peer.LATENT, and 28 x 28.
ROWS, PIXELS = 64, 784
# Share of lambda_1 by which eigenvalues may differ (Jacobians are in single precision), and share of the mean damage.
SPECTRA, DAMAGE = 1e-4, 0.03
# Level within the noise of such a run.
LEVEL = 0.95
# Seconds that a peer may take in all, from its start, and in its repetitions.
PEER, REPEATING = 120, 20


class Failed(Exception):
    pass


class Peer:
    """A child process that repeats one piece of work on demand."""

    def __init__(self, setup, name, work, batch):
        command = [sys.executable, HERE / "gpu_peer.py", name, work, batch, setup.sizes["steps"], setup.folder, setup.device]
        self.processes, self.said = setup.processes, []
        self.until = setup.processes.limit(PEER)
        self.child = setup.processes.start(command, environment=setup.environment, talks=True)
        first = self.answer()
        self.result, self.note = first["result"], first["note"]

    def answer(self):
        try:
            while (line := self.child.line(self.until)) is not None:
                if line.startswith("{"):
                    return json.loads(line)
                self.said += [line] if line.strip() else []
            code = self.child.process.wait(10)
        except (Late, subprocess.TimeoutExpired):
            self.close()
            raise Failed(f"ended after {PEER} s or at the end of this part") from None
        self.close()
        said = [line for line in self.said if "Error" in line] or self.said
        raise Failed(said[-1][:160] if said else f"exit code {code}")

    def repeat(self, count):
        """Seconds of each repetition: as many as asked for, or as fit the time."""
        try:
            self.child.process.stdin.write(f"{count} {REPEATING}\n")
            self.child.process.stdin.flush()
        except OSError:
            pass  # It has ended, and its answer says how.
        answer = self.answer()
        self.note = answer["note"]
        return answer["seconds"]

    def close(self):
        self.processes.end(self.child)


def compared(setup, case, work, batch, peers, agrees, own_rows):
    """`own_rows` of pullback's timings, then a row a peer with its ratio, each as soon as it is known. Yields (row, best ratio so
    far or None)."""
    ours = Peer(setup, "pullback", work, batch)
    timings = ours.repeat(setup.sizes["repeat"])
    result, note = ours.result, ours.note
    ours.close()
    mine, targets, rows = own_rows(timings, note)
    yield from rows
    for name in peers:
        if setup.peers and name not in setup.peers:
            continue
        try:
            peer = Peer(setup, name, work, batch)
            off, allowed = agrees(result, peer.result)
            # `not <=`, so that NaN fails too.
            if not off <= allowed:
                peer.close()
                yield row(case, name, None, None, targets.get(name), f"DISAGREES by {off:.1e}, {allowed:g} allowed")
                continue
            seconds = peer.repeat(setup.sizes["repeat"] if not name.startswith("torch.eig") else 3)
            said = f"agrees to {off:.0e}" + (f", {peer.note}" if peer.note else "")
            peer.close()
            yield row(case, name, seconds, statistics.median(seconds) / mine, targets.get(name), said)
        except (Failed, Late) as error:
            yield row(case, name, None, None, targets.get(name), f"not run: {error}")


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


def spectrum(setup):
    count = setup.sizes["spectrum"]
    setup.prepare(count)
    case = f"conv, 2L = {ROWS}, {count} images"
    gemm, copy = (ceiling(setup, what) for what in ("gemm", "copy"))
    yield row(case, "= ceilings", note=f"GEMM in single precision (TF32 off) {gemm / 1e12:.2f} TFlop/s, copy {copy / 1e9:.0f} GB/s read "
              "and written")

    def own(timings, note):
        whole, jacobian = timings["spectrum of stochastic"], timings["jacobian of stochastic"]
        ours = statistics.median(whole)
        share = jacobian_floor(count, gemm, copy) / statistics.median(jacobian)
        return ours, {}, [row(case, "pullback", whole, note=note),
                          row(case, "= 0.5 s / ours", None, 0.5 / ours, 1, "below 0.5 s in all"),
                          row(case, "= roofline", jacobian, share, 0.6, "share of it that the Jacobian alone reaches")]

    ratios = []
    # Smallest first: JAX, which is judged; torch's looped eigenproblems take longest.
    for r in compared(setup, case, "spectrum", count, ["jax", "torch.func", "torch.compile"], eigenvalues_agree, own):
        yield r
        ratios += [r["ratio"]] if r["ratio"] and not r["peer"].startswith("=") else []
    yield row(case, "= best peer", None, min(ratios) if ratios else None, 3, "Jacobian + eigenvalues")


def eigen(setup):
    count = setup.sizes["eigen"]
    setup.prepare(count, count)
    case = f"{ROWS} x {ROWS} x {count} eigenvalues"

    def own(timings, note):
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
        return ours, {"torch.eigh": 50}, rows

    # torch's, which loop, last.
    peers = ["cupy.eigvalsh", "cupy.eigh", "jax", "torch.eigvalsh", "torch.eigh"]
    yield from compared(setup, case, "eigen", count, peers, eigenvalues_agree, own)


def pgd(setup):
    setup.prepare(max(setup.sizes["pgd"]))
    # `never behind torch.compile with graphs` at both sizes.
    targets = [{"torch.eager": 5, "torch.compile": LEVEL}, {"torch.eager": 1.5, "torch.compile": LEVEL}]
    for batch, target in zip(setup.sizes["pgd"], targets):
        case = f"PGD, {setup.sizes['steps']} steps, B = {batch}"

        def own(timings, _, case=case, target=target):
            # The search is what the peers do; `pgd` measures the attacked images too.
            seconds, judged = (timings[f"{of}pgd, {setup.sizes['steps']} steps"] for of in ("search of ", ""))
            ours = statistics.median(seconds)
            return ours, target, [row(case, "pullback", seconds),
                                  row(case, "(judged)", judged, statistics.median(judged) / ours, None,
                                      "pullback with all measures of the attacked images")]

        yield from compared(setup, case, "pgd", batch, ["torch.eager", "jax", "torch.compile"], damage_agrees(setup, batch), own)
