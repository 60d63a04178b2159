"""What several panels share: one legend under them with the sizes as its title, and letters above them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from theorysim.plots.draw import size_label
from theorysim.plots.style import THEORY


def sizes(**symbols: float | Sequence[float]) -> str:
    """The sizes of a legend's title: "$n = 4$, $d = 2$"."""
    return ", ".join(size_label(symbol, value) for symbol, value in symbols.items())


def proxy(label: str, color: str = THEORY, marker: str = "", linestyle: Any = "none", **options: Any) -> Line2D:
    """An entry of a legend that several panels share."""
    return Line2D([], [], color=color, marker=marker, linestyle=linestyle, label=label, **options)


def shared_legend(drawing: matplotlib.figure.Figure, handles: Sequence[Any], title: str, columns: int) -> None:
    """One legend for all panels, under them, with the sizes as its title."""
    place = "outside lower center"
    legend = drawing.legend(handles=list(handles), title=title, title_fontsize=7, loc=place, ncols=columns)
    legend.get_title().set_multialignment("center")


def letters(axes: Iterable[Axes], titles: Iterable[str]) -> None:
    """(a), (b), ... above the panels, each with its title."""
    for letter, panel, title in zip("abcdefgh", axes, titles, strict=False):
        panel.set_title(f"({letter}) {title}", loc="left")
