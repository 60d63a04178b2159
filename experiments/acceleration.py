"""What a stepsize beyond monotone descent gains: the risk after T steps over stepsizes and budgets."""

import sys

import matplotlib.figure
import numpy as np

from theorysim.cli.script import main
from theorysim.papers.large_stepsize_gd import theory
from theorysim.papers.large_stepsize_gd.claims import FIXED, GAMMA, PAPER, two_point
from theorysim.papers.large_stepsize_gd.curves import decade_times
from theorysim.papers.large_stepsize_gd.figures import budgets, measure, risk_at_budgets, stepsize_label
from theorysim.papers.large_stepsize_gd.setting import LinearPredictor
from theorysim.plots import (
    COLORS,
    TEXT,
    THEORY,
    Figure,
    canvas,
    letters,
    points,
    proxy,
    shared_legend,
    size_colors,
    sizes,
)
from theorysim.plots import theory as line
from theorysim.verify.session import Session

QUESTION = "What does a stepsize that lets the risk rise gain over every stepsize that keeps it monotone?"

SIZES = {"quick": (25, 30_000), "standard": (49, 100_000), "paper": (97, 1_000_000)}
"""Stepsizes and horizon of the first two panels."""

SHOWN = (4.0, 16.0, 30.0, 120.0)


def gains(session: Session) -> matplotlib.figure.Figure:
    """t L over time, T L over the stepsize, and the ratio of the risks at the budget."""
    count, horizon = SIZES[session.preset]
    times = decade_times(horizon, 6)
    t = np.asarray(times, float)
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    over_time, over_eta, over_budget = axes[0]

    shown = [two_point(eta, times) for eta in SHOWN]
    colors = size_colors(len(shown))
    for results, color in zip(measure(session, shown), colors, strict=True):
        points(over_time, t[1:], t[1:] * results["risk"][:, 1:], label=None, color=color)

    eta = np.geomspace(1, 300, count)
    measured = measure(session, [two_point(float(value), times) for value in eta])
    scaled = horizon * np.array([results["risk"][0, -1] for results in measured])
    monotone = np.array([results["increases"][0, -1] == 0 for results in measured])
    for which, marker, color in ((monotone, "^", COLORS[0]), (~monotone, "o", COLORS[1])):
        points(over_eta, eta[which], scaled[None, which], label=None, color=color, marker=marker)
    line(over_eta, eta, 1 / (eta * GAMMA**2), label=None)
    over_eta.axvline(theory.largest_monotone_stepsize(GAMMA), color=THEORY, linestyle=":", linewidth=1)

    for panel in (over_time, over_eta):
        panel.axhline(theory.MONOTONE_SCALED_RISK, color=THEORY, linestyle="--", linewidth=1)
    T = np.asarray(budgets(session), float)
    proportional = theory.acceleration_stepsize(GAMMA, T)
    fast = risk_at_budgets(session, LinearPredictor(), proportional)
    slow = risk_at_budgets(session, LinearPredictor(), np.full(len(T), FIXED))
    points(over_budget, T, slow / fast, label=None, color=COLORS[2])
    line(over_budget, T, proportional / FIXED, label=None)
    over_budget.axhline(1, color=THEORY, linewidth=0.5)

    over_time.set(xscale="log", yscale="log", xlabel="$t$", ylabel="$t\\, L(w_t)$")
    over_eta.set(xscale="log", yscale="log", xlabel=r"$\eta$", ylabel="$T L(w_T)$")
    over_budget.set(
        xscale="log", yscale="log", xlabel="$T$", ylabel=rf"$L(\eta = {FIXED:g})\;/\;L(\eta = \gamma^2 T/120)$"
    )
    letters(axes[0], ("over time", f"$T = {horizon:,}$".replace(",", "{,}"), "at the budget"))
    handles = [proxy(f"(a) {stepsize_label(value)}", c, "o") for value, c in zip(SHOWN, colors, strict=True)]
    handles += [
        proxy("(b) monotone", COLORS[0], "^"),
        proxy("(b) not monotone", COLORS[1], "o"),
        proxy(r"(b) $1/(\eta \gamma^2)$; (c) $\gamma^2 T/(120 \cdot 16)$", linestyle="-"),
        proxy(rf"least of monotone runs, ${theory.MONOTONE_SCALED_RISK}$", linestyle="--"),
        proxy(r"$\eta_1$, above which $L_1 > L_0$", linestyle=":"),
    ]
    title = f"two points, linear, {sizes(n=2, d=2)}, " + rf"$\gamma = {GAMMA:g}$, $w_0 = 0$: deterministic"
    shared_legend(drawing, handles, title, 4)
    return drawing


FIGURE = Figure(f"{PAPER}.acceleration", QUESTION, gains)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.acceleration", f"{PAPER}.monotone-lower-bound"], figures=[FIGURE]))
