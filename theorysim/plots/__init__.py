"""Figures: a common style, helpers that lay theory over simulation, and files that are the same on every run."""

from theorysim.plots.draw import band, canvas, points, size_colors, size_label, spread, theory
from theorysim.plots.figure import Figure, save
from theorysim.plots.legends import letters, proxy, shared_legend, sizes
from theorysim.plots.style import COLORS, COLUMN, SMALL, TEXT, THEORY, styled

__all__ = [
    "COLORS",
    "COLUMN",
    "SMALL",
    "TEXT",
    "THEORY",
    "Figure",
    "band",
    "canvas",
    "letters",
    "points",
    "proxy",
    "save",
    "shared_legend",
    "size_colors",
    "size_label",
    "sizes",
    "spread",
    "styled",
    "theory",
]
