"""Ctrl-C, resuming, and several threads."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
import torch

import pullback as pb


def _slow(conv, seconds):
    conv.eval()

    def encode(x):
        time.sleep(seconds)
        return conv.encode(x)

    return pb.Model(conv, encode=encode)


# Seconds from Ctrl-C to its exception, as the documents say, and what a machine with other work may take besides.
PROMISED, SLACK = 2.0, 0.5


def _interrupt_after(seconds):
    """Sends Ctrl-C; the list gets when."""
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(seconds, send).start()
    return sent


def _in_time(sent):
    return time.monotonic() - sent[0] < PROMISED + SLACK


class Wide(torch.nn.Module):
    """A VAE of images 1x12x12 that takes its time: 200 latents."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 1500), torch.nn.Tanh(), torch.nn.Linear(1500, 400))
        self.back = torch.nn.Linear(200, 144)

    def encode(self, x):
        mu, logvar = self.body(x).chunk(2, 1)
        return mu, logvar

    def decode(self, z):
        return self.back(z).sigmoid().view(-1, 1, 12, 12)


@pytest.fixture
def wide():
    torch.manual_seed(0)
    return Wide()


def test_ctrl_c_stops_and_keeps_what_is_done(conv, images):
    x = images.repeat(100, 1, 1, 1)
    sent = _interrupt_after(2.5)
    with pytest.raises(KeyboardInterrupt) as raised:
        pb.score(_slow(conv, 0.05), x, batch=2, quiet=True)
    assert _in_time(sent)
    done = raised.value.finished
    count = len(done["/index"])
    assert 0 < count < len(x) and done["/index"].tolist() == list(range(count))
    expected = pb.score(conv, x[:count], quiet=True)
    assert torch.allclose(done["/spectrum/eigenvalues"], expected.spectrum, rtol=1e-5, atol=1e-9)


def test_the_same_call_goes_on(conv, images, tmp_path, capsys):
    x, out = images.repeat(20, 1, 1, 1), tmp_path / "scores.h5"
    wait = [0.05]
    conv.eval()
    head = conv.head.register_forward_hook(lambda *a: time.sleep(wait[0]))
    _interrupt_after(2.5)
    with pytest.raises(KeyboardInterrupt):
        pb.score(conv, x, batch=2, out=out)
    wait[0] = 0.0
    found = pb.score(conv, x, batch=2, out=out)
    assert "goes on after" in capsys.readouterr().err
    head.remove()
    assert torch.allclose(found.spectrum, pb.score(conv, x, quiet=True).spectrum, rtol=1e-5, atol=1e-9)


def test_rows_of_another_call_are_not_this_ones(conv, images, tmp_path):
    x, out = images.repeat(20, 1, 1, 1), tmp_path / "scores.h5"
    _interrupt_after(2.5)
    with pytest.raises(KeyboardInterrupt) as raised:
        pb.score(_slow(conv, 0.05), x, batch=2, out=out, quiet=True)
    assert len(raised.value.finished["/index"])
    # Stopped before it could find out whose they are.
    _interrupt_after(0.3)
    with pytest.raises(KeyboardInterrupt) as raised:
        pb.score(_slow(conv, 1.0), x, batch=2, out=out, metric="mean", quiet=True)
    assert raised.value.finished == {}


def test_a_call_that_does_not_end_is_left(conv, images):
    sent = _interrupt_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        pb.score(_slow(conv, 4.0), images, quiet=True)
    assert _in_time(sent)
    # The next call waits for it, and is not stopped.
    assert len(pb.score(conv, images, quiet=True).index) == 8


# What would take minutes.
LONG = {
    "score": lambda vae, x: pb.score(vae, x.repeat(1000, 1, 1, 1), metric="output-stochastic", quiet=True),
    "pgd": lambda vae, x: pb.attack(vae, x.repeat(100, 1, 1, 1), attacks=["pgd"], eps=[0.5], steps=100_000, quiet=True),
    "race": lambda vae, x: pb.attack(vae, x.repeat(1000, 1, 1, 1), attacks=["race"], eps=[0.1, 0.5, 1, 2], quiet=True),
}


@pytest.mark.parametrize("kind", ["module", "file"])
@pytest.mark.parametrize("work", LONG)
def test_ctrl_c_stops_any_work_in_time(wide, images, tmp_path, kind, work):
    vae = wide
    if kind == "file":
        vae = tmp_path / "vae.pt"
        pb.export(wide, vae, images[:2])
    sent = _interrupt_after(1.0)
    with pytest.raises(KeyboardInterrupt):
        LONG[work](vae, images)
    assert _in_time(sent)
    # The next call is not stopped.
    assert len(pb.score(vae, images[:2], metric="mean", quiet=True).index) == 2


def test_an_interpreter_ends_while_a_call_does_not(tmp_path):
    script = """
import os, signal, threading, time, torch, pullback as pb
fc = torch.nn.Linear(4, 2)
def encode(x):
    time.sleep(3)
    return fc(x.flatten(1))
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    pb.score(pb.Model(fc, encode=encode, decode=lambda z: z.repeat(1, 2).view(-1, 1, 2, 2)), torch.rand(4, 1, 2, 2), metric="mean")
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def _beside(conv, images, end):
    """What a call in another thread comes to, whose model waits while `end` lets a call in this thread fail."""
    asked, goes_on, came = threading.Event(), threading.Event(), []

    def encode(x):
        asked.set()
        assert goes_on.wait(60)
        return conv.encode(x)

    def work():
        try:
            came.append(pb.score(pb.Model(conv, encode=encode), images, quiet=True))
        except BaseException as error:  # noqa: BLE001
            came.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert asked.wait(60)
        end()
    finally:
        goes_on.set()
        thread.join(60)
    return came[0]


def test_a_warning_that_is_an_error_stops_its_own_call_alone(conv, images):
    loud = pb.Model(conv, decode=lambda z: 5 * conv.decode(z))

    def end():
        with warnings.catch_warnings(), pytest.raises(pb.PullbackWarning):
            warnings.filterwarnings("error", message=".*well outside")
            pb.score(loud, images, quiet=True)

    other = _beside(conv, images, end)
    assert isinstance(other, pb.Scores), other


def test_ctrl_c_stops_the_calls_of_all_threads(conv, images):
    def end():
        _interrupt_after(0.5)
        with pytest.raises(KeyboardInterrupt):
            pb.score(_slow(conv, 0.05), images.repeat(100, 1, 1, 1), batch=2, quiet=True)

    assert isinstance(_beside(conv, images, end), KeyboardInterrupt)
    pb.score(conv, images, quiet=True)


def test_a_model_is_not_asked_once_a_signal_has_ended_its_call(conv, images):
    asked = [0]
    conv.eval()

    def encode(x):
        asked[0] += 1
        time.sleep(0.05)
        return conv.encode(x)

    def ends(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, ends)
    try:
        threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(TimeoutError):
            pb.attack(pb.Model(conv, encode=encode), images, attacks=["pgd"], steps=400, eps=[0.5], quiet=True)
    finally:
        signal.signal(signal.SIGUSR1, before)
    # It may be in training mode again.
    count = asked[0]
    time.sleep(0.3)
    assert asked[0] == count


def test_two_threads_with_two_models(conv, images):
    other = copy.deepcopy(conv)
    with torch.no_grad():
        other.head.weight.mul_(1.5)
    expected = [pb.score(vae, images, quiet=True).spectrum for vae in (conv, other)]
    found = [[], []]
    failed = []

    def work(place, vae):
        try:
            for _ in range(5):
                found[place].append(pb.score(vae, images, quiet=True).spectrum)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=work, args=(place, vae)) for place, vae in enumerate((conv, other))]
    [t.start() for t in threads]
    [t.join(120) for t in threads]
    assert not failed and not any(t.is_alive() for t in threads)
    for place in (0, 1):
        assert all(torch.allclose(spectrum, expected[place], rtol=1e-5, atol=1e-9) for spectrum in found[place])


def test_two_threads_with_one_model(conv, images):
    before = {n: m.training for n, m in conv.named_modules()}
    threads = [threading.Thread(target=pb.score, args=(conv, images), kwargs={"quiet": True}) for _ in range(3)]
    [t.start() for t in threads]
    [t.join(120) for t in threads]
    assert {n: m.training for n, m in conv.named_modules()} == before and all(
        p.requires_grad for p in conv.parameters()
    )


def test_calls_that_follow_each_other_share_a_thread(conv, images):
    seen = []

    def encode(x):
        seen.append(threading.get_ident())
        return conv.encode(x)

    model = pb.Model(conv, encode=encode, posterior="logvar")
    for _ in range(5):
        pb.score(model, images, quiet=True)
    assert len(set(seen)) == 1 and threading.get_ident() not in seen


@pytest.mark.parametrize("leave", [lambda: torch.set_autocast_enabled("cpu", True), lambda: torch.set_grad_enabled(False)])
@pytest.mark.filterwarnings("ignore::pullback.PullbackWarning")
def test_what_a_model_leaves_behind_is_not_the_next_ones(conv, images, leave):
    def encode(x):
        leave()
        return conv.encode(x)

    expected = pb.score(conv, images, quiet=True).spectrum
    try:
        pb.score(pb.Model(conv, encode=encode, posterior="logvar"), images, quiet=True)
    except (ValueError, pb.Error):
        pass  # Of such a model nothing is asked but that it keeps to itself.
    assert torch.allclose(pb.score(conv, images, quiet=True).spectrum, expected, rtol=1e-5, atol=1e-9)


def test_a_forked_process_is_told_and_does_not_wait_for_ever(tmp_path):
    script = """
import os, sys, torch, pullback as pb
vae = torch.nn.Module()
vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 4, 4)))
x = torch.rand(4, 1, 4, 4)
first = pb.score(vae, x, metric="mean", quiet=True).spectrum
child = os.fork()
if child == 0:
    for ask in (lambda: pb.score(vae, x, metric="mean", quiet=True), lambda: pb.images("strokes", limit=2)):
        try:
            ask()
            os._exit(9)
        except pb.Error as error:
            if "spawn" not in str(error) or "\\n" in str(error):
                os._exit(7)
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
third = pb.score(vae, x, metric="mean", quiet=True).spectrum
sys.exit(code if code else 0 if torch.equal(first, third) else 8)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_gil_is_free_while_the_engine_computes(wide, images):
    counted, ends = [0], threading.Event()

    def count():
        while not ends.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    seconds, copies = 0.0, 8
    try:
        # A call that is long enough for another thread to be kept out of, on whatever machine.
        while seconds < 0.5:
            x, copies = images.repeat(copies, 1, 1, 1), 2 * copies
            before, start = counted[0], time.monotonic()
            pb.score(wide, x, metric="mean", quiet=True)
            seconds, turns = time.monotonic() - start, counted[0] - before
    finally:
        ends.set()
        thread.join()
    # A thread that waited for the lock would have counted next to nothing.
    assert turns > 50 * seconds, (turns, seconds)
