"""What the engine tells while it works, as Python shows it."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

try:
    with warnings.catch_warnings():
        # In a notebook without ipywidgets it warns of that, with a bar of text in its place.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
except ImportError:  # Optional: plain lines are written then.
    tqdm = None


class PullbackWarning(UserWarning):
    """Something doubtful in a request or a result, in the command line's words."""


class Listener:
    """Shows progress, notes and warnings. All of it happens on the caller's thread."""

    #: Seconds between plain lines.
    EVERY = 5.0

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._bar: Any = None
        self._task = ("", "", 0, 0)
        self._said = time.monotonic()

    def begin(self, task: str, unit: str, total: int, done: int) -> None:
        self._task = (task, unit, total, done)
        self._said = time.monotonic()
        if tqdm is not None and not self._quiet:
            self._bar = tqdm(desc=task, unit=f" {unit}", total=total, initial=done, leave=False, delay=0.5)

    def advance(self, units: int) -> None:
        task, unit, total, done = self._task
        self._task = (task, unit, total, done + units)
        if self._bar is not None:
            self._bar.update(units)
        elif not self._quiet and time.monotonic() - self._said >= self.EVERY:
            self._said = time.monotonic()
            self._say(f"{task}: {done + units}/{total} {unit}")

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def note(self, line: str) -> None:
        if not self._quiet:
            self._say(line)

    def detail(self, line: str) -> None:
        if self._verbose:
            self._say(line)

    def warning(self, line: str) -> None:
        # This method, the function that asks the engine, the public one, its caller.
        warnings.warn(line, PullbackWarning, stacklevel=4)

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)
