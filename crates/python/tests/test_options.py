"""The options are the command line's."""

import inspect
import re
import subprocess
import typing

import numpy as np
import pytest
import torch

import pullback as pb

# Of the command line alone: what stands in the place of model, images and file, and what Python has otherwise.
OTHERS = {"model", "data", "output", "help", "threads", "trace", "progress", "input_range", "posterior", "outputs"}
NAMES = {"attack": "attacks", "save_images": "save_images"}


@pytest.mark.parametrize("command", ["score", "attack"])
def test_every_flag_is_an_argument(program, command):
    told = subprocess.run([program, command, "--help"], capture_output=True, text=True, check=True).stdout
    own = re.findall(r"^ +(?:-\w, )?--([a-z][a-z0-9-]+)", told, re.MULTILINE)
    flags = {flag.replace("-", "_") for flag in own} - OTHERS
    assert len(flags) > 15
    arguments = set(inspect.signature(getattr(pb, command)).parameters)
    assert {NAMES.get(flag, flag) for flag in flags} - arguments == set()


@pytest.mark.parametrize("command", ["score", "attack"])
def test_named_values_are_the_programs(program, command):
    told = subprocess.run([program, command, "--help"], capture_output=True, text=True, check=True).stdout
    checked = 0
    for argument, hint in typing.get_type_hints(getattr(pb, command)).items():
        literals = [h for h in typing.get_args(hint) if typing.get_origin(h) is typing.Literal]
        own = {value for literal in literals for value in typing.get_args(literal) if isinstance(value, str)}
        flag = re.search(rf"^ +(?:-\w, )?--{argument.replace('_', '-')} .*?(?=^ +(?:-\w, )?--|\Z)", told, re.MULTILINE | re.DOTALL)
        values = set(re.findall(r"^ +- ([a-z0-9-]+)(?::|$)", flag[0], re.MULTILINE)) if flag else set()
        if own and values:
            assert own == values, argument
            checked += 1
    assert checked >= 4


@pytest.mark.parametrize(
    ("attack", "options", "stored"),
    [
        ("random", {"draws": 3}, "draws: 3"),
        ("square", {"queries": 20}, "queries: 20"),
        ("pgd", {"step": 0.5}, "step: 0.5"),
        ("race", {"starts": ["random", "others"]}, "starts: - random - others"),
        ("race", {"starts": "random"}, "starts: - random"),
    ],
)
def test_settings_of_attacks(conv, images, attack, options, stored):
    found = pb.attack(conv, images, attacks=[attack], eps=[0.5], quiet=True, **options)
    said = " ".join(found.attributes["config"].split())
    assert found.names == [attack] and stored in said and "- spectral" not in said


def test_a_no_goes_before_the_file(conv, images, tmp_path):
    (tmp_path / "run.yaml").write_text("attack: {images: yes}\n")

    def kept(**options):
        return bool(pb.attack(conv, images, attacks=["random"], eps=0.5, quiet=True, **options).images)

    config = tmp_path / "run.yaml"
    assert kept(config=config, out=tmp_path / "a.h5")
    assert not kept(config=config, out=tmp_path / "b.h5", save_images=False)
    assert not kept(set={"attack.images": "yes"}, save_images=False)
    assert kept(out=tmp_path / "c.h5", save_images=np.bool_(True))


@pytest.mark.parametrize("eps", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), [0.5], torch.tensor([0.5])])
def test_one_size_or_several(conv, images, eps):
    assert pb.attack(conv, images, attacks=["random"], eps=eps, quiet=True).eps.tolist() == [0.5]


@pytest.mark.parametrize("keys", [{"score.top": 2, "score.margin": None}, {"score": {"top": 2, "margin": None}}])
def test_values_of_keys_are_pythons(conv, images, keys):
    assert pb.score(conv, images, set=keys, quiet=True).directions.shape[1] == 2
