"""Growth of the margin in the stable phase: the normalised margin between the modified margin and its upper bound."""

import sys

import matplotlib as mpl
import matplotlib.figure
import numpy as np

from theorysim.cli.script import main
from theorysim.papers.large_stepsize_gd import theory
from theorysim.papers.large_stepsize_gd.claims import GAMMA, PAPER, allocation, constants, two_point
from theorysim.papers.large_stepsize_gd.curves import decade_times
from theorysim.papers.large_stepsize_gd.figures import XOR_NETWORK, measure, stepsize_handles, stepsize_label
from theorysim.papers.large_stepsize_gd.setting import Training, TwoPoint, Xor
from theorysim.plots import (
    COLORS,
    SMALL,
    TEXT,
    THEORY,
    Figure,
    band,
    canvas,
    letters,
    points,
    proxy,
    shared_legend,
    size_colors,
    sizes,
    spread,
)
from theorysim.plots import theory as line
from theorysim.verify.session import Session

QUESTION = "How does the margin grow in the stable phase, and how tight are the bounds on it?"

SIZES = {"quick": (20_000, 8, 100_000), "standard": (200_000, 16, 1_000_000), "paper": (1_000_000, 64, 10_000_000)}
"""Horizon and seeds on XOR, and horizon on the two-point data."""

STEPSIZES = (8.0, 32.0, 128.0)
MIDDLE = 1
"""The stepsize of the first panel."""

LINEAR_STEPSIZES = (4.0, 25.0, 100.0)


@mpl.rc_context(SMALL)
def growth(session: Session) -> matplotlib.figure.Figure:
    """The sandwich of one run, its gap over seeds and stepsizes, and the gap to the largest margin on two points."""
    horizon, seeds, linear_horizon = SIZES[session.preset]
    times = decade_times(horizon, 6)
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    sandwich_axes, gap_axes, linear_axes = axes[0]
    colors = size_colors(len(STEPSIZES))

    runs = [Training(Xor(), XOR_NETWORK, eta, times, scale=1.0) for eta in STEPSIZES]
    m, kept = XOR_NETWORK.width, seeds
    for i, (training, results) in enumerate(zip(runs, measure(session, runs, seeds), strict=True)):
        counted = allocation(training, results)
        usable = (counted > 0).all(1) & (results["s"] >= 0)
        kept = min(kept, int(usable.sum()))
        if not usable.any():
            continue
        k = constants(training, XOR_NETWORK.leak)
        stable = np.asarray(times, float) >= results["s"][usable].max()
        t = np.asarray(times, float)[stable]
        risk, norm, margin = (results[name][usable][:, stable] for name in ("risk", "norm", "min_margin"))
        gbar = margin / norm
        modified = theory.modified_margin(risk, norm, 4, training.eta, k)
        sandwich = theory.margin_sandwich(risk, norm, 4, training.eta, k)
        points(gap_axes, t, (gbar / modified - 1) * -np.log(risk), label=None, color=colors[i], median=True)
        bound, (down, up) = spread((sandwich.ratio - 1) * -np.log(risk), median=True)
        line(gap_axes, t, bound, label=None, color=colors[i], bound=True)
        band(gap_axes, t, bound - down, bound + up, color=colors[i])
        if i == MIDDLE:
            points(sandwich_axes, t, np.sqrt(m) * gbar[:1], label=None)
            for curve, style in ((sandwich.upper, "--"), (sandwich.lower, "-."), (modified, ":")):
                sandwich_axes.plot(t, np.sqrt(m) * curve[0], color=THEORY, linestyle=style)
            limit = theory.xor_margin(counted[usable][0], XOR_NETWORK.leak, m)
            line(sandwich_axes, t[[0, -1]], np.full(2, limit), label=None)

    linear_runs = [two_point(eta, decade_times(linear_horizon, 4)) for eta in LINEAR_STEPSIZES]
    for training, results, color in zip(linear_runs, measure(session, linear_runs), COLORS[1:], strict=False):
        t = np.asarray(training.times[1:], float)
        gap = GAMMA * results["norm"][:, 1:] - results["min_margin"][:, 1:]
        points(linear_axes, t, gap, label=None, color=color)
    two = TwoPoint(GAMMA)
    _, limit = theory.margin_limit_constants(two.p, two.q)
    line(linear_axes, t[[0, -1]], np.full(2, limit), label=None)
    named = [*stepsize_handles(LINEAR_STEPSIZES, COLORS[1:4]), proxy(rf"$q b = {limit:.4f}$", linestyle="-")]
    linear_axes.legend(handles=named)

    sandwich_axes.set(xscale="log", xlabel="$t$", ylabel=r"$\sqrt{m} \times$ margin", ylim=(0, None))
    gap_axes.set(xscale="log", xlabel="$t$", ylabel=r"$(\bar\gamma / \gamma^c - 1)\, \log(1/L)$", ylim=(0, None))
    linear_axes.set(xscale="log", xlabel="$t$", ylabel=r"$(\gamma - \bar\gamma_t)\, \|w_t\|$", ylim=(0, 2 * limit))
    letters(axes[0], (f"XOR, {stepsize_label(STEPSIZES[MIDDLE])}", "XOR, scaled gap", "two points, linear"))
    handles = stepsize_handles(STEPSIZES, colors)
    handles += [
        proxy(r"(a) $\bar\gamma$ of the first seed", COLORS[0], "o"),
        proxy("limit", linestyle="-"),
        proxy(r"$\log(1/L)/\|W\|$; (b) bound", linestyle="--"),
        proxy(r"$u(L)/\|W\|$", linestyle="-."),
        proxy(r"modified margin $\gamma^c$", linestyle=":"),
    ]
    title = f"XOR: {sizes(n=4, d=2, m=m, c=XOR_NETWORK.leak, T=horizon)}, from $s$ on, median over {kept} seeds, "
    title += "bars and bands: 95% CI\n"
    title += rf"two points: {sizes(n=2, d=2)}, $\gamma = {GAMMA:g}$, $w_0 = 0$"
    shared_legend(drawing, handles, title, 4)
    return drawing


FIGURE = Figure(f"{PAPER}.margin-growth", QUESTION, growth)
CLAIMS = tuple(f"{PAPER}.{name}" for name in ("margin-improvement", "margin-limit", "margin-only-nearly-monotone"))

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=[FIGURE]))
