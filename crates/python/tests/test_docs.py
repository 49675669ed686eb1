"""The examples of the documents run."""

import re

import pytest
import torch

import pullback as pb
from conftest import ROOT


def _blocks(name):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / name).read_text(), re.MULTILINE | re.DOTALL)


def test_python_md(conv, images, tmp_path, monkeypatch, command, capsys):
    pytest.importorskip("pandas")
    (tmp_path / "c.yaml").write_text(
        "data: {source: strokes, limit: 32}\nmodel: {kind: mlp, hidden: [4], latent: 2}\ntrain: {epochs: 1}\n"
    )
    command("train", "-c", "c.yaml", "-o", "runs/mnist")
    monkeypatch.chdir(tmp_path)
    space = {"vae": conv, "images": images}
    for block in _blocks("python.md"):
        exec(block, space)
    assert (tmp_path / "report.html").exists() and (tmp_path / "vae.pt").exists()


def test_bring_your_model_md():
    vae = torch.nn.Linear(2, 2)
    vae.encode = vae.decode = vae.bottleneck = vae.features = vae.up = lambda x: x
    for block in _blocks("bring-your-model.md"):
        exec(block, {"pb": pb, "vae": vae})


def test_the_line_that_asks_is_the_documents():
    text = " ".join((ROOT / "docs/bring-your-model.md").read_text().split())
    with pytest.raises(ValueError) as raised:
        pb._outputs._judged(torch.ones(1, 2), None, "Vae", None)
    assert f"one line of a `ValueError`: ``` {raised.value} ```" in text
