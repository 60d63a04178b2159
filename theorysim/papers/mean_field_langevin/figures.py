"""The figures of mean-field Langevin dynamics: theory as lines, simulation as points.

Theorems of Nitanda, Lee, Tan, Sakaguchi, Suzuki (ICML 2025, arXiv 2502.05784), Nitanda (NeurIPS 2024, arXiv 2405.15767) and Chen,
Ren, Wang (arXiv 2212.03050); constants are derived here. tanh1d, tanhlog, rbf, gauss and circles are the problems of `setting`.
"""

from __future__ import annotations

from theorysim.papers.mean_field_langevin.figures_dynamics import FIGURE_4, FIGURE_5, FIGURE_7
from theorysim.papers.mean_field_langevin.figures_ensemble import FIGURE_1, FIGURE_6
from theorysim.papers.mean_field_langevin.figures_gibbs import FIGURE_2, FIGURE_3

FIGURES = (FIGURE_1, FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_7)
