"""Figures: a common style, helpers that lay theory over simulation, and files that are the same on every run."""

from theorysim.plots.draw import band, canvas, points, size_colors, size_label, spread, theory
from theorysim.plots.figure import Figure, save
from theorysim.plots.style import COLORS, COLUMN, TEXT, THEORY, styled

__all__ = [
    "COLORS",
    "COLUMN",
    "TEXT",
    "THEORY",
    "Figure",
    "band",
    "canvas",
    "points",
    "save",
    "size_colors",
    "size_label",
    "spread",
    "styled",
    "theory",
]
