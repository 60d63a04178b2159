"""Phase diagram of gradient descent in stepsize and time: rising risk, edge of stability, stable phase."""

import dataclasses
import sys

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from theorysim.cli.script import main
from theorysim.papers.large_stepsize_gd import theory
from theorysim.papers.large_stepsize_gd.claims import (
    EOS_TRANSITION_TIME,
    GAMMA,
    PAIR,
    PAPER,
    STABLE_MONOTONE,
    certificate_times,
    every,
    modified_margin,
    trajectory_check,
    transition_checks,
)
from theorysim.papers.large_stepsize_gd.curves import decade_times
from theorysim.papers.large_stepsize_gd.figures import constants, leak, measure
from theorysim.papers.large_stepsize_gd.setting import LinearPredictor, ModifiedMargin, Training, TwoPoint
from theorysim.plots import COLORS, TEXT, Figure, canvas, letters, proxy, shared_legend, sizes
from theorysim.plots import theory as line
from theorysim.verify.session import Session

QUESTION = "At which stepsizes and times does the risk rise, sit at the edge of stability, or fall for good?"

SIZES = {"quick": (25, 30_000), "standard": (49, 300_000), "paper": (97, 3_000_000)}
"""Stepsizes and horizon."""

PREDICTORS = {"linear": LinearPredictor(), "network": PAIR}
MARGINS = {"linear": ModifiedMargin(), "network": modified_margin(PAIR.activation, PAIR.leak)}
SHADES = ("#F2C6A0", "#ECECEC", "#C9E2F3")
PHASES = ("$L$ rises", "before $s$, $L$ falls", "stable phase, from $s$ on")


def runs(preset: str, name: str, times: tuple[int, ...]) -> tuple[Training, ...]:
    """The two-point data over all stepsizes."""
    stepsizes = np.geomspace(0.3, 1000, SIZES[preset][0])
    predictor, margin = PREDICTORS[name], MARGINS[name]
    return tuple(Training(TwoPoint(GAMMA), predictor, float(eta), times, margin=margin) for eta in stepsizes)


def diagram(session: Session) -> matplotlib.figure.Figure:
    """One panel a predictor; s as points, tau as a line."""
    _, horizon = SIZES[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2, sharey=True)
    for panel, name in zip(axes[0], PREDICTORS, strict=True):
        phases(panel, session, runs(session.preset, name, decade_times(horizon, 16)))
    axes[0, 0].axvline(theory.largest_monotone_stepsize(GAMMA), color=COLORS[1], linewidth=1)
    axes[0, 0].set_ylabel("$t$")
    letters(axes[0], list(PREDICTORS))
    handles = [Patch(color=shade, label=phase) for shade, phase in zip(SHADES, PHASES, strict=True)]
    handles += [
        proxy(r"$s$: first $L \leq \mathrm{thr}$", marker="o"),
        proxy(r"$\tau$, bound on $s$", linestyle="--"),
        proxy(r"linear: $\eta_1$; above it, $L_1 > L_0$", COLORS[1], linestyle="-"),
    ]
    title = f"two points, {sizes(n=2, d=2)}, " + rf"$\gamma = {GAMMA:g}$; network: {sizes(m=PAIR.width, c=PAIR.leak)}; "
    shared_legend(drawing, handles, f"{title}$W_0 = 0$: deterministic", 3)
    return drawing


def phases(panel: Axes, session: Session, trainings: tuple[Training, ...]) -> None:
    """Shade each interval between recorded times by its phase."""
    measured = measure(session, trainings)
    first = trainings[0]
    eta, t = np.array([training.eta for training in trainings]), np.asarray(first.times, float)
    s = np.array([results["s"][0] for results in measured])
    rising = np.array([np.diff(results["increases"][0]) > 0 for results in measured]).T
    stable = (s >= 0) & (s <= t[1:, None])
    phase = np.where(rising, 0, np.where(stable, 2, 1))
    half = (eta[1] / eta[0]) ** 0.5
    edges = np.append(eta / half, eta[-1] * half)
    panel.pcolormesh(edges, np.maximum(t, 0.9), phase, cmap=ListedColormap(SHADES), vmin=0, vmax=2, zorder=0)
    panel.plot(eta[s >= 0], s[s >= 0], color="#222222", marker="o", markersize=2.5, linestyle="none")
    tau = theory.transition_time_bound(eta, 2, GAMMA, 0.0, 0.0, constants(first, leak(first)))
    line(panel, eta, tau, bound=True)
    panel.set(
        xscale="log", yscale="log", xlabel=r"$\eta$", xlim=(edges[0], edges[-1]), ylim=(0.9, 2 * max(t[-1], tau.max()))
    )
    panel.grid(False)


DESIGN = every(
    lambda preset: tuple(run for name in PREDICTORS for run in runs(preset, name, certificate_times(SIZES[preset][1]))),
    quick=1,
    standard=1,
    paper=1,
)
NOTE = "Judged on the runs of the diagram."
CLAIMS = (
    dataclasses.replace(EOS_TRANSITION_TIME, checks=transition_checks(DESIGN, exhaustive=True), note=NOTE),
    dataclasses.replace(STABLE_MONOTONE, checks=(trajectory_check(DESIGN, exhaustive=True),), note=NOTE),
)
FIGURE = Figure(f"{PAPER}.phase-diagram", QUESTION, diagram)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=[FIGURE]))
