"""What the scripts for docs/evaluation.md share: a run of the program whose file is read, and intervals."""

import argparse
import pathlib
import subprocess
import tempfile

import h5py
import numpy as np

# Resamples of an interval, and the seed of their draws.
RESAMPLES, SEED = 10000, 0


def arguments(text, count):
    """A parser of IMAGES, MODEL..., --binary and --count."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a data set that the program reads")
    parser.add_argument("models", nargs="+", help="TorchScript files or folders of training runs")
    parser.add_argument("--binary", required=True, help="the program")
    parser.add_argument("--count", type=int, default=count, help=f"the first images, {count} unless given")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def name(model):
    """A model's name in a table."""
    return pathlib.Path(model).stem


def computed(options, command, model, *flags):
    """Everything that `score` or `attack` writes, by its path in the file, as arrays."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.h5"
        subprocess.run([options.binary, command, "-q", "-m", model, "-d", options.images, "--limit", str(options.count),
                        "--seed", str(options.seed), *map(str, flags), "-o", out], check=True)
        found = {}
        with h5py.File(out) as file:
            file.visititems(lambda path, item: found.update({path: item[...]}) if isinstance(item, h5py.Dataset) else None)
        return found


def interval(values):
    """Mean of the values that are numbers, and its bootstrap interval of 95 % (percentiles)."""
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    draws = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    return values.mean(), *np.percentile(values[draws].mean(1), [2.5, 97.5])


def table(head, rows):
    """Rows of text below a head, in columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)
