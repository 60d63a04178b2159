"""The look of every figure: legible at the width of a column, told apart without colour vision, no LaTeX needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib.style
from cycler import cycler

COLUMN, TEXT = 3.4, 6.8
"""Widths in inches: of one column of a two-column page, and of its text."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""For categories, in this order: Okabe & Ito's palette, distinguishable in the common forms of colour blindness."""

THEORY = "#222222"
"""Colour of a prediction that belongs to no category."""

STYLE = {
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.prop_cycle": cycler(color=COLORS),
    "pdf.fonttype": 42,  # embedded TrueType: text stays text in the file
    "svg.hashsalt": "theorysim",
}

SMALL: dict[Any, Any] = {"lines.markersize": 2.5}
"""Change of style for panels that hold many series, a decorator's `mpl.rc_context(SMALL)`."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The style, on top of matplotlib's defaults (not of a user's matplotlibrc), within a scope."""
    with matplotlib.style.context(["default", STYLE]):
        yield
