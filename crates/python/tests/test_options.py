"""The options are the command line's."""

import inspect
import re
import subprocess

import pytest

import pullback as pb

# Of the command line alone: what stands in the place of model, images and file, and what Python has otherwise.
OTHERS = {"model", "data", "output", "help", "threads", "trace", "input_range", "posterior", "outputs"}
NAMES = {"attack": "attacks", "save_images": "save_images"}


@pytest.mark.parametrize("command", ["score", "attack"])
def test_every_flag_is_an_argument(program, command):
    told = subprocess.run([program, command, "--help"], capture_output=True, text=True, check=True).stdout
    own = re.findall(r"^ +(?:-\w, )?--([a-z][a-z0-9-]+)", told, re.MULTILINE)
    flags = {flag.replace("-", "_") for flag in own} - OTHERS
    assert len(flags) > 15
    arguments = set(inspect.signature(getattr(pb, command)).parameters)
    assert {NAMES.get(flag, flag) for flag in flags} - arguments == set()
