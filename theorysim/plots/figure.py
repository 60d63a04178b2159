"""A figure of a paper: its id, the question that it answers, and how it is drawn from measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
from matplotlib.backends.backend_agg import FigureCanvasAgg

from theorysim.errors import require
from theorysim.plots.style import styled
from theorysim.verify.session import Session


@dataclass(frozen=True)
class Figure:
    """A figure that can be redrawn.

    id: "<paper>.<figure>", the name of its files.
    question: what it shows, in one line.
    draw: session -> matplotlib figure; it measures through the session, so that a figure and a verdict of the same
        preset and seed share their data.
    """

    id: str
    question: str
    draw: Callable[[Session], matplotlib.figure.Figure]

    def __post_init__(self) -> None:
        require(self.id.count(".") >= 1, f"figure id must read <paper>.<figure>, got {self.id!r}")
        require("/" not in self.id, f"figure id names files and must have no slash, got {self.id!r}")
        require("\n" not in self.question, f"question of {self.id} must be one line, got {self.question!r}")

    def render(self, session: Session, out: Path) -> tuple[Path, Path]:
        """Draw in the project's style and save under the id: paths of PNG and PDF."""
        with styled():
            return save(self.draw(session), out, self.id)


def save(drawing: matplotlib.figure.Figure, out: Path, name: str) -> tuple[Path, Path]:
    """Save `drawing` as `<out>/<name>.png` and `.pdf`, without dates: equal data make equal files."""
    out.mkdir(parents=True, exist_ok=True)
    png, pdf = out / f"{name}.png", out / f"{name}.pdf"
    if drawing.canvas is None:
        FigureCanvasAgg(drawing)
    drawing.savefig(png, format="png", metadata={"Software": None})
    drawing.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return png, pdf
