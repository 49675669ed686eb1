"""The package itself: which torch, which files, examples that run."""

import doctest
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest
import torch

import pullback as pb
from conftest import ROOT

PACKAGE = pathlib.Path(pb.__file__).parent


def test_versions_agree():
    assert pb._BUILT_WITH == pb.LIBTORCH.split("+")[0]
    assert f"TORCH_VERSION := {pb._BUILT_WITH}" in (ROOT / "Makefile").read_text()
    assert f"torch=={'.'.join(pb._BUILT_WITH.split('.')[:2])}.*" in (ROOT / "crates/python/pyproject.toml").read_text()
    assert f'version = "{pb.__version__}"' in (ROOT / "Cargo.toml").read_text()


def test_another_torch_is_refused_with_one_line():
    script = "import torch; torch.__version__ = '2.9.1+cpu'; import pullback"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last
        == "ImportError: pullback: expected torch 2.11, which it was built with, found torch 2.9.1 (pip install 'torch==2.11.*')"
    )


def test_one_libtorch_is_in_the_process():
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    found = set(re.findall(r"/\S*/lib(?:torch_cpu|c10|torch_python)\.so\S*", maps.read_text()))
    assert {pathlib.Path(p).parent for p in found} == {pathlib.Path(torch.__file__).parent.resolve() / "lib"}


def test_no_libpython_is_named():
    native = next(PACKAGE.glob("_native*.so"))
    needed = subprocess.run(["readelf", "-d", native], capture_output=True, text=True, check=True).stdout
    assert "libpython" not in needed and "libtorch_cpu.so" in needed
    assert "RPATH" not in needed and "RUNPATH" not in needed


def test_one_wheel_serves_every_python():
    (tag,) = re.findall(r"^Tag: (\S+)$", importlib.metadata.distribution("pullback").read_text("WHEEL"), re.MULTILINE)
    assert tag.startswith("cp310-abi3-")
    assert [p.name for p in PACKAGE.glob("_native*.so")] == ["_native.abi3.so"]


def test_types_and_names():
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_native.pyi").exists()
    import pullback._native as native

    stub = (PACKAGE / "_native.pyi").read_text()
    for name in dir(native):
        if not name.startswith("_"):
            assert re.search(rf"\b(def|class) {name}\b|^{name}:", stub, re.MULTILINE), name
    for name in pb.__all__:
        assert getattr(pb, name) is not None and (
            name.isupper() or name == "__version__" or getattr(pb, name).__doc__
        ), name


# What people call, each by its module; the package's own text is an example too.
EXAMPLES = {
    "": [],
    "_model": ["Model"],
    "_run": ["score", "attack", "images"],
    "_results": ["open"],
    "_report": ["report", "figure"],
    "_export": ["export"],
    "_load": ["load"],
}


@pytest.fixture(scope="module")
def strokes(program, tmp_path_factory):
    """A folder with runs/strokes, which examples open."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "c.yaml").write_text(
        "data: {source: strokes, limit: 32}\nmodel: {kind: mlp, hidden: [8], latent: 4}\ntrain: {epochs: 1}\n"
    )
    subprocess.run([program, "train", "-q", "-c", "c.yaml", "-o", "runs/strokes"], cwd=folder, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_docstrings(strokes, tmp_path, monkeypatch, module):
    # What they write lies in a folder of the test's own.
    (tmp_path / "runs").symlink_to(strokes / "runs")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    name = f"pullback.{module}".rstrip(".")
    found = {test.name: test.examples for test in doctest.DocTestFinder().find(sys.modules[name])}
    for wanted in EXAMPLES[module] or [""]:
        examples = found[f"{name}.{wanted}".rstrip(".")]
        assert examples and not any(doctest.SKIP in example.options for example in examples), wanted
    failed, attempted = doctest.testmod(sys.modules[name], optionflags=doctest.ELLIPSIS)
    assert failed == 0 and attempted == sum(map(len, found.values())) > 0
