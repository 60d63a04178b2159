"""Figures on N neurons at stationarity: the gap of the objective, and how little it knows of the log-Sobolev constant."""

from __future__ import annotations

import dataclasses

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from theorysim.papers.mean_field_langevin.dynamics import PAPER, model_of
from theorysim.papers.mean_field_langevin.figures_ensemble import powers
from theorysim.papers.mean_field_langevin.gibbs import (
    COOLING,
    NETWORKS,
    POINTS,
    SAMPLES,
    Cooling,
    Networks,
    Samples,
)
from theorysim.papers.mean_field_langevin.setting import Problem, rbf, tanh1d, tanhlog
from theorysim.papers.mean_field_langevin.theory import dynamics, mean_field
from theorysim.plots import COLORS, SMALL, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

IID, WORST = ("#888888", "--"), ("#888888", ":")
FEW, MANY = COLORS[1], COLORS[0]

# --- figure 2: the gap ------------------------------------------------------------------------------------------------

SIZES = {"quick": 32, "standard": 128, "paper": 2000}
"""Seeds of the logistic loss."""
WIDTHS = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])
SAMPLED = np.array([1, 2, 4, 8, 16, 32, 64])
COLD = 0.01
"""lam of the second radial problem."""


def constants(panel: Axes, problem: Problem, extent: float, ends: tuple[float, float]) -> float:
    """kappa, L tr K/(2n) and L R^2/2 as horizontal lines; kappa."""
    best = mean_field.mf_optimum(model_of(problem), mean_field.ball_grid(extent, 401))
    x = np.array(ends, float)
    line(panel, x, np.full(2, best.kappa), label=None)
    panel.plot(x, np.full(2, best.gap_bound), color=IID[0], linestyle=IID[1], zorder=2)
    panel.plot(x, np.full(2, mean_field.worst_case_gap(best.model)), color=WORST[0], linestyle=WORST[1], zorder=2)
    return best.kappa


def gaps(session: Session) -> matplotlib.figure.Figure:
    """N Delta_N over N, exact for the squared loss and by importance sampling for the logistic one, against limit and bounds."""
    seeds = SIZES[session.preset]
    exact = (
        (rf"tanh1d, $\lambda = {tanh1d().lam:g}$", Networks(tanh1d(), WIDTHS, POINTS[:1])),
        (r"rbf, $\lambda = 0.1$", Networks(rbf(0.1), WIDTHS, POINTS[:1], extent=13.0)),
        (rf"rbf, $\lambda = {COLD:g}$", Networks(rbf(COLD), WIDTHS, POINTS[:1], extent=6.0)),
    )
    sampled = Samples(tanhlog(), SAMPLED, POINTS[:1])
    drawing, axes = canvas(2, 4, width=TEXT, height=4.2, sharey=False)
    measured = session.measure(NETWORKS, Design(tuple(setting for _, setting in exact)))
    for column, ((_, setting), results) in enumerate(zip(exact, measured, strict=True)):
        fine = results["resolved"][0]
        kappa = constants(axes[0, column], setting.problem, setting.extent, (1, 256))
        N, scaled = WIDTHS[fine], (WIDTHS * results["gap"][0])[fine]
        for panel, values in zip(axes[:, column], (scaled, 100 * (scaled / kappa - 1)), strict=True):
            panel.plot(N, values, color=MANY, marker="o", linestyle="none")
            powers("x", panel, WIDTHS[::4])
    (results,) = session.measure(SAMPLES, Design((sampled,), seeds))
    kappa = constants(axes[0, 3], sampled.problem, sampled.extent, (1, 64))
    scaled = SAMPLED * results["gap"]
    for panel, values in zip(axes[:, 3], (scaled, 100 * (scaled / kappa - 1)), strict=True):
        points(panel, SAMPLED.astype(float), values, label=None, color=FEW)
        powers("x", panel, SAMPLED[::3])
    for panel in axes[0]:
        panel.set(ylim=(5e-3, 1))
        powers("y", panel, (0.01, 0.1, 1.0))
    for panel in axes[1]:
        panel.axhline(0, color=THEORY)
        panel.set(xlabel="$N$", ylim=(-15, 15))
    axes[0, 0].set_ylabel(r"$N\,\Delta_N$")
    axes[1, 0].set_ylabel(r"$N\,\Delta_N/\kappa - 1$, %")
    names = [name for name, _ in exact] + [rf"tanhlog, $\lambda = {tanhlog().lam:g}$"]
    letters(axes.flat, names + [rf"({letter}) over $\kappa$, less 1" for letter in "abcd"])
    handles = [
        proxy(r"(a)-(c) $P^*$, exact", MANY, "o"),
        proxy(rf"(d) importance sampling, {seeds} seeds, 95% CI", FEW, "o"),
        proxy(r"$\kappa = (\lambda/2) \log\det(I + D^{1/2} K D^{1/2}/(\lambda n))$", linestyle="-"),
        proxy(r"independent neurons, $L\,{\rm tr} K/(2n)$", IID[0], linestyle=IID[1]),
        proxy(r"worst case, $L R^2/2$", WORST[0], linestyle=WORST[1]),
    ]
    title = "gap of the objective of $N$ neurons at stationarity, times $N$; squared loss in (a)-(c), logistic in (d)\n"
    title += "(e)-(h): points of the smallest $N$ lie beyond the axes"
    shared_legend(drawing, handles, title, 2)
    return drawing


# --- figure 3: no log-Sobolev constant --------------------------------------------------------------------------------

TEMPERATURES = {"quick": 8, "standard": 16, "paper": 40}
"""Values of lam from .2 to .005."""
COOLED = np.array([8, 64])
WIDE, NODES = 16.0, 801


@mpl.rc_context(SMALL)
def without_lsi(session: Session) -> matplotlib.figure.Figure:
    """Poincare constant of mu*, and N Delta_N with kappa and the bounds, as the temperature falls."""
    lam = np.geomspace(0.2, 0.005, TEMPERATURES[session.preset])
    setting = Cooling(rbf(0.1), lam, COOLED, extent=WIDE, nodes=NODES)
    (results,) = session.measure(COOLING, Design((setting,)))
    dense = np.geomspace(0.2, 0.005, 40)
    grid = mean_field.ball_grid(WIDE, NODES)
    best = [mean_field.mf_optimum(model_of(dataclasses.replace(rbf(0.1), lam=float(x))), grid) for x in dense]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.0)
    collapse, gap = axes[0]
    line(collapse, dense, np.array([dynamics.poincare(b) for b in best]), label=None)
    collapse.plot(lam, results["poincare"][0], color=COLORS[2], marker="s", linestyle="none")
    line(gap, dense, np.array([b.kappa for b in best]), label=None)
    gap.plot(dense, [b.gap_bound for b in best], color=IID[0], linestyle=IID[1])
    gap.plot(dense, [mean_field.worst_case_gap(b.model) for b in best], color=WORST[0], linestyle=WORST[1])
    for k, (N, color, marker) in enumerate(zip(COOLED, (FEW, MANY), "^o", strict=True)):
        found = np.where(results["resolved"][0], N * results["gap"][0, :, k], np.nan)
        gap.plot(lam, found, color=color, marker=marker, linestyle="none")
    for panel in axes[0]:
        panel.set(xscale="log", yscale="log", xlabel=r"$\lambda$")
        panel.invert_xaxis()
    collapse.set_ylabel(r"Poincaré constant of $\mu^*$, $\geq \alpha$")
    gap.set_ylabel(r"$N\,\Delta_N$")
    letters(axes[0], ("isoperimetry collapses", "the price of finite $N$ does not rise"))
    handles = [proxy("(a) from differences on a grid", COLORS[2], "s")]
    handles += [proxy(f"(b) $P^*$, $N = {N}$, exact", c, m) for N, c, m in zip(COOLED, (FEW, MANY), "^o", strict=True)]
    handles += [
        proxy(r"(a) $\lambda^{-1}$ gap$_0$, (b) $\kappa$", linestyle="-"),
        proxy(r"(b) ${\rm tr} K/(2n)$", IID[0], linestyle=IID[1]),
        proxy(r"(b) $L R^2/2$", WORST[0], linestyle=WORST[1]),
    ]
    title = rf"rbf: $n = 2$, $z = \pm 1.5$, $y = 1$, $\lambda' = {rbf(0.1).lamp:g}$; $\alpha$: log-Sobolev constant of $\mu^*$"
    shared_legend(drawing, handles, title, 3)
    return drawing


FIGURE_2 = Figure(
    f"{PAPER}.figure-2", "What is the gap of the objective of N neurons, times N, and what does it tend to?", gaps
)
FIGURE_3 = Figure(
    f"{PAPER}.figure-3", "Does the price of finite N rise as the log-Sobolev constant collapses?", without_lsi
)
