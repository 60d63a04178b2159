"""The switching time s of random instances against its bound tau."""

import sys

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from theorysim.cli.script import main
from theorysim.papers.large_stepsize_gd import theory
from theorysim.papers.large_stepsize_gd.claims import PAPER, STABLE, constants, random_instances
from theorysim.plots import TEXT, Figure, canvas, letters, proxy, shared_legend, size_colors, size_label, spread
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "How far is the switching time s from its bound tau, over stepsize, sample size and margin?"

SIZES = {"quick": (10_000, 400), "standard": (100_000, 2000), "paper": (1_000_000, 10_000)}
"""Horizon and number of instances."""

LEAST = 6
"""Fewest instances in a bin: with fewer, the median has no 95 % interval."""


def comparison(session: Session) -> matplotlib.figure.Figure:
    """Medians of s and tau over stepsize and over n, for each margin; every instance."""
    horizon, instances = SIZES[session.preset]
    setting = random_instances("softplus", (0, horizon), rows=16, width=2, leaks=np.array([0.5]))
    (results,) = session.measure(STABLE, Design((setting,), instances))
    eta, n, gamma = results["eta"], results["samples"], results["gamma"]
    k = constants(setting, results["leak"])
    tau = theory.transition_time_bound(eta, n, gamma, results["norm2"], results["alignment"], k)
    s = np.where(results["s"] >= 0, results["s"], np.inf)  # later than the horizon, so the median stays one
    bins = np.geomspace(0.1, 10**2.5, 8)
    margins = np.unique(gamma)
    colors = size_colors(len(margins))

    drawing, axes = canvas(1, 3, width=TEXT, height=2.9, sharey=True)
    over_eta, over_n, over_tau = axes[0]
    shifts = 1.15 ** (np.arange(len(margins)) - len(margins) // 2)  # side by side, so that bars can be told apart
    for value, shift, color in zip(margins, shifts, colors, strict=True):
        here = gamma == value
        medians(
            over_eta,
            shift * np.sqrt(bins[1:] * bins[:-1]),
            np.digitize(eta[here], bins) - 1,
            s[here],
            tau[here],
            horizon,
            color,
        )
        sizes, which = np.unique(n[here], return_inverse=True)
        medians(over_n, shift**0.5 * sizes, which, s[here], tau[here], horizon, color)
        over_tau.plot(tau[here], s[here], color=color, marker="o", markersize=1.5, linestyle="none")
    ends = np.array([tau.min(), tau.max()])
    line(over_tau, ends, ends, bound=True)
    over_eta.set_yscale("symlog", linthresh=1)  # s may be zero
    over_eta.set(xscale="log", xlabel=r"$\eta$", ylabel=r"$s$, $\tau$")
    over_n.set(xscale="log", xlabel="$n$", xticks=np.unique(n), xticklabels=[f"{value:g}" for value in np.unique(n)])
    over_n.minorticks_off()
    over_tau.set(xscale="log", xlabel=r"$\tau$", ylim=(-0.3, None))
    letters(axes[0], ("over the stepsize", "over the sample size", "every instance"))
    handles = [proxy(size_label(r"\gamma", value), c, "o") for value, c in zip(margins, colors, strict=True)]
    handles += [
        proxy("$s$: median, 95% CI up to $T$", marker="o"),
        proxy(r"$\tau$, median; in (c): $s = \tau$", linestyle="--"),
    ]
    late = np.mean(~np.isfinite(s))
    title = f"leaky softplus, $c = 0.5$, $m = 1, 2$, $d = 2, 5$, {instances} instances; "
    shared_legend(drawing, handles, f"{title}{late:.0%} have $s > T = {horizon:,}$, counted as infinite", 5)
    return drawing


def medians(
    panel: Axes, x: np.ndarray, which: np.ndarray, s: np.ndarray, tau: np.ndarray, horizon: int, color: str
) -> None:
    """Median of s, where it is known, with its interval up to the horizon at most, and median of tau, in each bin."""
    bounds = np.full(len(x), np.nan)
    for i, place in enumerate(x):
        inside = which == i
        if inside.sum() < LEAST:
            continue
        bounds[i] = np.median(tau[inside])
        with np.errstate(invalid="ignore"):  # infinite order statistics
            (centre,), distances = spread(s[inside, None], median=True)
        if np.isfinite(centre):
            up = np.minimum(distances[1], horizon - centre)
            panel.errorbar([place], [centre], yerr=[distances[0], up], color=color, marker="o", linestyle="none")
    line(panel, x, bounds, label=None, color=color, bound=True)


FIGURE = Figure(f"{PAPER}.transition-time", QUESTION, comparison)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.eos-transition-time"], figures=[FIGURE]))
