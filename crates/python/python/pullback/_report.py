"""Pages and figures of results."""

from __future__ import annotations

import html
import os
from typing import Any
from xml.etree import ElementTree

from . import _native
from ._outputs import Ask
from ._results import paths


def report(results: Any, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Writes one HTML page, which needs nothing else, of results, result files or run folders.

    Args:
        results: One of :class:`Scores`, :class:`Attack` or a path, or a list of them.
        path: The page.
        force: Replace it where it is there.

    Raises:
        FileExistsError: Where it is there, without ``force``.
        ValueError: Where an input holds no result or a damaged one.

    >>> import torch, pullback as pb
    >>> vae = torch.nn.Module()
    >>> vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    >>> vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 784), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
    >>> x, labels = pb.images("strokes", limit=4)
    >>> scores = pb.score(vae, x, metric="mean", quiet=True)
    >>> pb.report(scores, "scores.html")
    >>> open("scores.html", encoding="utf-8").read(15)
    '<!DOCTYPE html>'
    """
    _native.write_report(paths(results), os.fspath(path), force)


def figure(results: Any, name: str | None = None) -> Figure:
    """One figure of the report of results.

    Args:
        results: As :func:`report` takes them.
        name: Its anchor in the page; the first figure unless given.

    Raises:
        ValueError: Where there is no such figure; the message names those that there are.

    >>> import torch, pullback as pb
    >>> vae = torch.nn.Module()
    >>> vae.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    >>> vae.decoder = torch.nn.Sequential(torch.nn.Linear(3, 784), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 28, 28)))
    >>> x, labels = pb.images("strokes", limit=4)
    >>> figure = pb.figure(pb.score(vae, x, metric="mean", quiet=True))
    >>> figure.svg[:4], len(figure.panels) > 0
    ('<svg', True)
    """
    page = _native.render_report(paths(results))
    # The page is XML as well, but for its first line.
    tree = ElementTree.fromstring(page.split("\n", 1)[1])
    figures = {f.get("id", ""): f for f in tree.iter("figure") if f.find(".//svg[@viewBox]") is not None}
    chosen = next(iter(figures), None) if name is None else name
    if chosen not in figures:
        raise Ask(f"figure: expected one of {', '.join(figures) or 'none'}, found {name!r}")
    style = next((s.text or "" for s in tree.iter("style")), "")
    return Figure(chosen, figures[chosen], style)


class Figure:
    """A figure: ``svg`` is its first panel, ``panels`` are all; a notebook shows the whole."""

    def __init__(self, name: str, element: ElementTree.Element, style: str) -> None:
        self.name = name
        heading = element.find("h3")
        #: What was found, in a sentence.
        self.title = "".join(heading.itertext()) if heading is not None else name
        self._element, self._style = element, style
        #: Each panel as an SVG of its own.
        self.panels = [
            _alone(svg, style) for svg in element.iter("svg") if "sw" not in (svg.get("class") or "").split()
        ]

    @property
    def svg(self) -> str:
        """The first panel, an SVG file's text."""
        return self.panels[0]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the first panel as an SVG file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.svg)

    def _repr_html_(self) -> str:
        body = ElementTree.tostring(self._element, encoding="unicode")
        return _frame(
            f"<!DOCTYPE html><html><head><style>{self._style}</style></head><body><main>{body}</main></body></html>",
            520,
        )

    def __repr__(self) -> str:
        return f"<pullback.Figure {self.name}: {self.title}>"


def framed(results: Any) -> str:
    """The report as a notebook shows it: in a frame, so that the page's style is its own."""
    return _frame(_native.render_report(paths(results)), 700)


def _frame(page: str, height: int) -> str:
    return (
        f'<iframe srcdoc="{html.escape(page)}" style="width:100%;height:{height}px;border:0" loading="lazy"></iframe>'
    )


def _alone(svg: ElementTree.Element, style: str) -> str:
    """A panel that carries the page's colours and type."""
    copy = ElementTree.fromstring(ElementTree.tostring(svg))
    copy.set("xmlns", "http://www.w3.org/2000/svg")
    sheet = ElementTree.Element("style")
    sheet.text = style.replace(":root", "svg")
    copy.insert(0, sheet)
    return ElementTree.tostring(copy, encoding="unicode")
