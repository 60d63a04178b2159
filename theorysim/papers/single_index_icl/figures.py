"""The figures of in-context learning of single-index targets: theory as lines, simulation as points.

Figures 1 and 2 are those of Oko, Song, Suzuki, Wu (NeurIPS 2024, arXiv 2411.02544), with a decoder at the `paper` preset and the
paper's one-layer transformer, pretrained in two stages, at all; the others lay simulation over the closed forms derived here.
"""

from __future__ import annotations

from theorysim.papers.single_index_icl.figures_kernel import FIGURE_6
from theorysim.papers.single_index_icl.figures_learners import FIGURE_1, FIGURE_2, FIGURE_4
from theorysim.papers.single_index_icl.figures_pretraining import FIGURE_3, FIGURE_5

FIGURES = (FIGURE_1, FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6)
