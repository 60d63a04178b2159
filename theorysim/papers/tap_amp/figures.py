"""The figures of TAP variational inference: theory as lines, simulation as points.

They show what the theorems of Celentano, Fan, Lin, Mei (2023, arXiv 2311.08442) state; phase lines, the law of naive mean field
and the spectrum of the Hessian are derived here. U3 is the uniform prior on -1, 0, 1, S3(e) has the weights e/2, 1 - e, e/2
there, BG(rho, v) is (1 - rho) delta_0 + rho N(0, v).
"""

from __future__ import annotations

from theorysim.papers.tap_amp.figures_inference import FIGURE_3, FIGURE_4, FIGURE_5
from theorysim.papers.tap_amp.figures_landscape import FIGURE_1, FIGURE_2, FIGURE_6, FIGURE_7
from theorysim.papers.tap_amp.figures_secondary import FIGURE_8

FIGURES = (FIGURE_1, FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_7, FIGURE_8)
