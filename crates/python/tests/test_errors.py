"""Wrong requests, faults and warnings, as Python has them."""

import tempfile
import time
import warnings

import pytest
import torch

import pullback as pb


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"metric": "means"}, r"--metric: expected one of mean, stochastic, .*, found \"means\""),
        ({"top": -1}, "--top: expected a whole number >= 0"),
        ({"batch": 0}, "--batch: expected"),
        ({"limit": 0}, "--limit: expected a whole number >= 1"),
        ({"precision": "f16"}, "--precision: expected one of"),
        ({"set": {"score.topp": 1}}, "topp"),
        ({"limit": 2, "sample": 2}, "expected no --"),
    ],
)
def test_options_are_checked_as_the_command_line_does(conv, images, options, line):
    with pytest.raises(ValueError, match=line):
        pb.score(conv, images, quiet=True, **options)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"attacks": ["pdg"]}, "--attack: expected"),
        ({"eps": [-1.0]}, "--eps: expected a number > 0"),
        ({"norm": "l3"}, "--norm: expected one of"),
        ({"attacks": ["random"], "steps": 3}, "--steps"),
        ({"goal": "laten"}, "--goal: expected one of"),
    ],
)
def test_those_of_attacks(conv, images, options, line):
    with pytest.raises(ValueError, match=line):
        pb.attack(conv, images, quiet=True, **options)


def test_keys_of_the_yaml(conv, images):
    assert pb.score(conv, images, set={"score.top": 2}, quiet=True).directions.shape[1] == 2


@pytest.mark.parametrize(
    ("text", "keys", "line"),
    [
        ("", {"interface.posterior": "std"}, r"interface.posterior: expected None, as pb.Model was given, found std"),
        ("", {"interface.input_range": (-1, 1)}, r"interface.input_range: expected \(0.0, 1.0\), .*, found \[-1, 1\]"),
        ("interface: {outputs: [0, 1]}", {}, r"interface.outputs: expected None, .*, found \[0, 1\]"),
        ("score: {top: 1}\ninterface:\n  input_range:\n  - -1\n  - 1\n", {}, "interface.input_range: expected"),
    ],
)
def test_only_the_model_says_how_it_is_read(conv, images, tmp_path, text, keys, line):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=line) as raised:
        pb.score(conv, images, config=tmp_path / "run.yaml", set=keys, quiet=True)
    assert "\n" not in str(raised.value)


def test_the_same_interface_may_be_said_and_is_stored(conv, images, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "# interface: {posterior: var}\ninterface: {input_range: [-1, 1], posterior: logvar}\n"
    )
    model = pb.Model(conv, input_range=(-1, 1), posterior="logvar", outputs=(0, 1))
    expected = pb.score(model, images, quiet=True)
    found = pb.score(model, images, config=tmp_path / "run.yaml", quiet=True)
    assert torch.equal(found.spectrum, expected.spectrum)
    for scores in (expected, found):
        told = " ".join(scores.attributes["config"].split())
        assert "input_range: - -1.0 - 1.0" in told and "outputs: - 0 - 1" in told


def test_only_keys_of_the_interface_say_how_a_model_is_read(conv, images, tmp_path):
    (tmp_path / "run.yaml").write_text('data: {source: "a posterior: std"}\ninterface: {input_range: &range [0, 1]}\n')
    model = pb.Model(conv, input_range=(-1, 1))
    said = {"interface.input_range.0": -1}
    found = pb.score(model, images, config=tmp_path / "run.yaml", set=said, quiet=True)
    assert torch.equal(found.spectrum, pb.score(model, images, quiet=True).spectrum)
    with pytest.raises(ValueError, match=r"interface.input_range: expected \(-1.0, 1.0\), .*, found \[0, 1\]"):
        pb.score(model, images, config=tmp_path / "run.yaml", quiet=True)


def test_a_typo_is_python_s_own_error(conv, images):
    with pytest.raises(TypeError, match="metrics"):
        pb.score(conv, images, metrics="mean")


def test_warnings_are_pythons_and_name_the_callers_line(conv, images):
    model = pb.Model(conv, decode=lambda z: 5 * conv.decode(z))
    with pytest.warns(pb.PullbackWarning, match="well outside") as told:
        pb.score(model, images, quiet=True)
    assert told[0].filename == __file__
    with warnings.catch_warnings(), pytest.raises(pb.PullbackWarning):
        warnings.simplefilter("error")
        pb.score(model, images, quiet=True)
    # What a warning has stopped does not stop what comes next.
    pb.score(conv, images, quiet=True)


def test_a_call_that_is_refused_leaves_no_folder(conv, images, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="found it on meta"):
        pb.score(conv.to("meta"), images, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_call_that_fails_closes_its_bar(conv, images, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **_):
            self.open = True
            bars.append(self)

        def update(self, units):
            pass

        def write(self, line, file):
            pass

        def close(self):
            self.open = False

    def encode(x):
        time.sleep(0.02)
        if bars:
            raise RuntimeError("lost")
        return conv.encode(x)

    monkeypatch.setattr(pb._progress, "tqdm", Bar)
    with pytest.raises(ValueError, match="RuntimeError: lost"):
        pb.score(pb.Model(conv, encode=encode), images.repeat(4, 1, 1, 1), batch=1)
    assert bars and not any(bar.open for bar in bars)


def test_a_folder_that_is_not_there(conv, images, tmp_path):
    with pytest.raises((ValueError, OSError), match="an existing folder"):
        pb.score(conv, images, out=tmp_path / "no/where.h5", quiet=True)


# What the two allocators of libtorch say.
FULL = {
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9000000000 bytes."
    ),
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.38 GiB."),
}


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize("batch", ["auto", 8])
def test_memory_that_runs_out(conv, images, kind, batch):
    conv.eval()

    def holding(count):
        def encode(x):
            if len(x) > count:
                raise FULL[kind]()
            return conv.encode(x)

        return pb.Model(conv, encode=encode, posterior="logvar")

    # Smaller batches are tried first; at the smallest there is no other way.
    expected = pb.score(conv, images, quiet=True).spectrum
    assert torch.allclose(pb.score(holding(2), images, batch=batch, quiet=True).spectrum, expected, rtol=1e-5, atol=1e-9)
    with pytest.raises(MemoryError, match="allocate") as raised:
        pb.score(holding(0), images, batch=batch, quiet=True)
    assert isinstance(raised.value.__cause__, RuntimeError) and "\n" not in str(raised.value)
    assert len(pb.score(conv, images, quiet=True).index) == 8


class Lost(torch.autograd.Function):
    """The identity, which cannot be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("lost on the way back")


def test_a_computation_that_fails(conv, images):
    conv.eval()
    lost = pb.Model(conv, encode=lambda x: conv.encode(Lost.apply(x)), posterior="logvar")
    for asked in (
        lambda: pb.score(lost, images, quiet=True),
        lambda: pb.attack(lost, images, attacks=["pgd"], eps=[0.5], quiet=True),
        lambda: pb.attack(conv, images, attacks=["pgd"], eps=[0.5], judge=lambda x: Lost.apply(x).mean((1, 2, 3)), quiet=True),
    ):
        with pytest.raises(pb.Error, match="lost on the way back") as raised:
            asked()
        assert isinstance(raised.value, RuntimeError) and "\n" not in str(raised.value)
    assert len(pb.score(conv, images, quiet=True).index) == 8


def test_a_panic_is_an_exception(conv, images, capfd):
    if not hasattr(pb._native, "_panic"):
        pytest.skip("a build without debug assertions has nothing that panics when asked to")
    for _ in range(2):
        with pytest.raises(pb.Error, match="a fault of pullback's own, please report it: panicked at .*: as asked for"):
            pb._native._panic(pb._progress.Listener(quiet=True))
    assert capfd.readouterr() == ("", "")
    # No job is left that the next would wait for.
    assert len(pb.score(conv, images, quiet=True).index) == 8


def test_numbers_that_are_none(conv, images):
    conv.eval()
    lost = pb.Model(conv, encode=lambda x: tuple(t / torch.zeros(1) for t in conv.encode(x)), posterior="logvar")
    with pytest.raises(ValueError, match="finite"):
        pb.score(lost, images, quiet=True)


def test_progress_and_notes(conv, images, tmp_path, capsys):
    pb.score(conv, images, out=tmp_path / "a.h5", verbose=True)
    assert "passes:" in capsys.readouterr().err
    pb.score(conv, images, quiet=True)
    assert capsys.readouterr().err == ""
