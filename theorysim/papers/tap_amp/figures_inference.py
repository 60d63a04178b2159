"""Figures on inference: state evolution, calibration, and the exact posterior."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from scipy import stats

from theorysim.errors import InputError
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.inference import MARGINALS, PAPER, TRAJECTORY, Marginals, Trajectory
from theorysim.papers.tap_amp.measurements import POSTERIOR_MEANS, Posterior
from theorysim.papers.tap_amp.setting import Law, model
from theorysim.plots import (
    COLORS,
    SMALL,
    TEXT,
    THEORY,
    Figure,
    canvas,
    letters,
    points,
    proxy,
    shared_legend,
    sizes,
    spread,
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session

# --- figure 3: state evolution ----------------------------------------------------------------------------------------

ENTRIES: dict[Law, tuple[str, str]] = {
    "gaussian": ("Gaussian", "o"),
    "rademacher": ("Rademacher", "s"),
    "sparse-signs": ("10 % sparse signs", "^"),
    "student-t5": ("Student $t_5$", "D"),
}
EVOLUTION = {"quick": (500, 32), "standard": (1000, 96), "paper": (8000, 96)}
"""p and instances."""
SHOWN = np.array([0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 25, 29])
"""Steps."""


def evolution(session: Session) -> matplotlib.figure.Figure:
    """Squared error and mean reported variance of AMP over its steps, four laws of entries, and both over mmse(gamma_t)."""
    p, seeds = EVOLUTION[session.preset]
    drawing, axes = canvas(2, 2, width=TEXT, height=4.2, sharex=True)
    settings = tuple(Trajectory(model(1.0, 0.3, p, entries=law)) for law in ENTRIES)
    predicted = theory.state_evolution(theory.U3, 1.0, 0.3, settings[0].steps).mse
    steps = np.arange(predicted.size, dtype=float)
    for panel in axes[0]:
        line(panel, steps, predicted, label=None)
    for panel in axes[1]:
        panel.axhline(0, color=THEORY)
    handles = []
    measured = session.measure(TRAJECTORY, Design(settings, seeds))
    for i, ((name, marker), color, results) in enumerate(zip(ENTRIES.values(), COLORS, measured, strict=False)):
        shift = SHOWN + 0.18 * (i - 1.5)  # side by side, so that they can be told apart
        for column, quantity in enumerate(("mse", "variance")):
            samples = results[quantity][:, SHOWN].astype(float)
            relative = 100 * (samples / predicted[SHOWN] - 1)
            points(axes[0, column], shift, samples, label=None, color=color, marker=marker)
            points(axes[1, column], shift, relative, label=None, color=color, marker=marker)
        handles.append(proxy(name, color, marker))
    axes[0, 0].set(ylabel=r"$|m_t - \beta_0|^2/p$")
    axes[0, 1].set(ylabel="mean $V_t$")
    axes[1, 0].set(xlabel="$t$", ylabel="difference, %")
    axes[1, 1].set(xlabel="$t$", ylabel="difference, %")
    letters(axes.flat, ("squared error", "reported variance", "(a) over theory, less 1", "(b) over theory, less 1"))
    handles.append(proxy(r"state evolution, mmse$(\gamma_t)$", linestyle="-"))
    title = rf"U3, {sizes(p=p)}, $\delta = 1$, $\sigma = 0.3$; mean and 95% CI over {seeds} instances of each law of entries"
    shared_legend(drawing, handles, title, 5)
    return drawing


# --- figure 4: calibration --------------------------------------------------------------------------------------------

CALIBRATED = {"quick": (400, 12), "standard": (1500, 16), "paper": (8000, 50)}
"""p and instances."""
PLACES = ((1.0, 0.3), (0.65, 0.1))
"""(delta, sigma) of U3: easy, and hard."""
CONVEX = {"quick": (0.45, 0.6, 1.0), "standard": (0.45, 0.5, 0.6, 0.8, 1.0), "paper": (0.45, 0.5, 0.6, 0.8, 1.0)}
"""sigma at delta = 1 in the convex regime of naive mean field."""
TAP, MEAN_FIELD = (COLORS[0], "o"), (COLORS[1], "s")


def marginals_of(
    session: Session, places: tuple[tuple[float, float], ...]
) -> dict[str, list[tuple[Results, Bool[np.ndarray, " S"]]]]:
    """Results by method, one a place, each with the mask of the runs that have converged."""
    p, seeds = CALIBRATED[session.preset]
    found = {}
    for method in ("tap", "mean-field"):
        settings = tuple(Marginals(model(*place, p), method) for place in places)
        found[method] = [
            (results, results["converged"]) for results in session.measure(MARGINALS, Design(settings, seeds))
        ]
    return found


@mpl.rc_context(SMALL)
def calibration(session: Session) -> matplotlib.figure.Figure:
    """PIT, reliability and coverage of TAP and of naive mean field, easy above, hard below; at the right, over sigma."""
    p, seeds = CALIBRATED[session.preset]
    found = marginals_of(session, PLACES)
    drawing, axes = canvas(2, 4, width=TEXT, height=4.0)
    for row in range(len(PLACES)):
        pit, reliability, coverage = axes[row, :3]
        pit.axhline(1, color=THEORY)
        for panel in (reliability, coverage):
            panel.plot([0, 1], [0, 1], color=THEORY)
        for method, (color, marker) in (("tap", TAP), ("mean-field", MEAN_FIELD)):
            results, kept = found[method][row]
            kept = kept if method == "tap" else np.ones_like(kept)
            transforms(pit, results["pit"][kept].astype(float), color)
            frequencies(reliability, results, kept, color, marker)
            covered = covered_shares(results["pit"][kept].astype(float), NOMINAL)
            points(coverage, NOMINAL, covered, label=None, color=color, marker=marker)
        pit.set(xlabel="PIT of $\\beta_{0,j}$", ylabel="density", xlim=(0, 1), ylim=(0, None))
        reliability.set(xlabel=r"reported $P(\beta_j \neq 0)$", ylabel="frequency", xlim=(-0.04, 1.04), ylim=(0, 1))
        coverage.set(xlabel="nominal level", ylabel="coverage", xlim=(0, 1), ylim=(0, 1))
    over_sigma(session, axes[0, 3], axes[1, 3])
    names = [name for place in PLACES for name in (rf"$\sigma = {place[1]:g}$: PIT", "reliability", "coverage", "")]
    names[3], names[7] = r"$\delta = 1$", r"$\delta = 1$"
    letters(axes.flat, names)
    counts = [int(kept.sum()) for _, kept in found["tap"]]
    handles = [
        proxy("TAP at AMP's limit", *TAP),
        proxy("naive mean field", *MEAN_FIELD),
        proxy("calibrated; (d), (h): theory", linestyle="-"),
        proxy(r"(d) open: reported mean $V$, filled: error", marker="o", markerfacecolor="white"),
    ]
    title = (
        rf"U3, {sizes(p=p)}, {seeds} instances, mean and 95% CI; above $\delta = 1$, easy; below $\delta = 0.65$, hard"
    )
    title += f"\nAMP converges in {counts[0]} and {counts[1]} of them, the others are left out"
    title += "\nmean field by coordinate ascent, all runs; bins of (b), (f) hold 200 coordinates or more"
    shared_legend(drawing, handles, title, 4)
    return drawing


NOMINAL = np.array([0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95])


def transforms(panel: Axes, pit: Float[np.ndarray, "S p"], color: str) -> None:
    """Histogram of all transforms, with the 95% band of means over instances."""
    edges = np.linspace(0, 1, 11)
    shares = np.stack([np.histogram(row, edges)[0] for row in pit]) / pit.shape[1] * 10
    mean, distances = spread(shares)
    panel.stairs(mean, edges, color=color, baseline=None)
    low, high = mean - distances[0], mean + distances[1]
    panel.fill_between(
        edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color=color, alpha=0.2, linewidth=0
    )


def frequencies(panel: Axes, results: Results, kept: Bool[np.ndarray, " S"], color: str, marker: str) -> None:
    """Frequency of beta0 != 0 over its reported probability in the bins that hold 200 coordinates or more."""
    event, reported, hits = (results[name][kept].astype(float) for name in ("event", "reported", "hits"))
    count = event.sum(0) * results["pit"].shape[1]
    enough = count >= 200
    share, x, y = event.sum(0)[enough], reported.sum(0)[enough], hits.sum(0)[enough]
    x, y = x / share, y / share
    # Ratio of means over instances: linearised, its error is that of the mean of hits - y event.
    residual = hits[:, enough] - y * event[:, enough]
    n = len(residual)
    half = stats.t.ppf(0.975, n - 1) * residual.std(0, ddof=1) / np.sqrt(n) / event[:, enough].mean(0)
    panel.errorbar(x, y, yerr=half, color=color, marker=marker, linestyle="none", elinewidth=0.8)


def covered_shares(
    pit: Float[np.ndarray, "S p"], levels: Float[np.ndarray, " levels"]
) -> Float[np.ndarray, "S levels"]:
    """Of each instance, the share of coordinates in the central intervals."""
    return np.mean(np.abs(pit - 0.5)[:, :, None] < levels / 2, axis=1)


@lru_cache
def mean_field_law(sigma: float) -> theory.MeanField | None:
    """At delta = 1 and U3; None outside the convex regime."""
    try:
        found = theory.mean_field(theory.U3, 1.0, sigma)
    except InputError:
        return None
    return found if found.stable else None


def hollow(panel: Any) -> None:
    """Open markers for the series drawn last."""
    panel.containers[-1].lines[0].set_markerfacecolor("white")


def over_sigma(session: Session, errors: Axes, coverage: Axes) -> None:
    """Error, reported variance and coverage of 90% intervals at delta = 1 where naive mean field has a theory."""
    found = marginals_of(session, tuple((1.0, sigma) for sigma in CONVEX[session.preset]))
    sigma = np.array(CONVEX[session.preset])
    dense = np.linspace(0.43, 1.0, 20)
    bayes = np.array([theory.mmse(theory.U3, theory.gamma_alg(theory.U3, 1.0, x)) for x in dense])
    line(errors, dense, bayes, label=None, color=TAP[0])
    laws = [(x, law.marginals) for x in dense if (law := mean_field_law(float(x))) is not None]
    at = np.array([x for x, _ in laws])
    line(errors, at, np.array([law.mse for _, law in laws]), label=None, color=MEAN_FIELD[0])
    line(errors, at, np.array([law.variance for _, law in laws]), label=None, color=MEAN_FIELD[0])
    line(coverage, at, np.array([float(law.coverage(0.9)) for _, law in laws]), label=None, color=MEAN_FIELD[0])
    coverage.axhline(0.9, color=TAP[0], linewidth=1.2)
    for method, (color, marker) in (("tap", TAP), ("mean-field", MEAN_FIELD)):
        for place, (results, kept) in zip(sigma, found[method], strict=True):
            x = np.array([place])
            kept = kept if method == "tap" else np.ones_like(kept)
            for quantity in ("mse", "variance"):
                points(
                    errors, x, results[quantity][kept][:, None].astype(float), label=None, color=color, marker=marker
                )
                if quantity == "variance":
                    hollow(errors)
            points(coverage, x, results["coverage"][kept][:, [2]].astype(float), label=None, color=color, marker=marker)
    errors.set(xlabel=r"$\sigma$", ylabel="error, mean $V$", ylim=(0, None))
    coverage.set(xlabel=r"$\sigma$", ylabel="coverage of 90%", ylim=(0.78, 0.92))


# --- figure 5: exact posterior ----------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """p of the scatter (the last) and of the errors, with the instances of each."""

    p: tuple[int, ...]
    seeds: tuple[int, ...]


AGAINST_GIBBS = {
    "quick": Sizes((25, 50, 100, 200), (64, 32, 16, 8)),
    "standard": Sizes((50, 100, 200, 400), (96, 64, 32, 16)),
    "paper": Sizes((50, 100, 200, 400, 800, 1600), (200, 100, 50, 40, 24, 12)),
}


def against_posterior(session: Session) -> matplotlib.figure.Figure:
    """Marginal means of TAP and of naive mean field over those of Gibbs sampling, and their distance over p."""
    size = AGAINST_GIBBS[session.preset]
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    measured = [
        session.measure(POSTERIOR_MEANS, Design((Posterior(model(1.0, 0.5, p)),), seeds))[0]
        for p, seeds in zip(size.p, size.seeds, strict=True)
    ]
    of_tap, of_mean_field, rate = axes[0]
    last = measured[-1]
    for panel, name, (color, _) in ((of_tap, "tap", TAP), (of_mean_field, "mean_field", MEAN_FIELD)):
        panel.plot([-1, 1], [-1, 1], color=THEORY, zorder=3)
        shown = max(1, 800 // size.p[-1])
        panel.plot(
            last["sampled"][:shown].ravel(),
            last[name][:shown].ravel(),
            color=color,
            marker=".",
            markersize=2.5,
            alpha=0.5,
            linestyle="none",
        )
        panel.set(xlabel="posterior mean, Gibbs", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    of_tap.set_ylabel("marginal mean $m_j$")
    p = np.array(size.p, float)
    for index, (color, marker) in enumerate((TAP, MEAN_FIELD)):
        for x, results in zip(p, measured, strict=True):
            points(
                rate,
                np.array([x]),
                results["error"][results["converged"]][:, [index]].astype(float),
                label=None,
                color=color,
                marker=marker,
            )
    middle = float(
        np.mean(
            [
                np.log(x * results["error"][results["converged"], 0].mean())
                for x, results in zip(p, measured, strict=True)
            ]
        )
    )
    rate.plot(p, np.exp(middle) / p, color="#999999", linestyle="--", linewidth=0.8)
    rate.set(xscale="log", yscale="log", xlabel="$p$", ylabel=r"$|m - m_{\rm posterior}|^2/p$")
    rate.set_xticks(p, [f"{x:g}" for x in p])
    rate.minorticks_off()
    letters(axes[0], (rf"TAP, {sizes(p=size.p[-1])}", rf"mean field, {sizes(p=size.p[-1])}", "distance"))
    lost = sum(int((~results["converged"]).sum()) for results in measured)
    handles = [
        proxy("TAP at AMP's limit", *TAP),
        proxy("naive mean field", *MEAN_FIELD),
        proxy("equal", linestyle="-"),
        proxy(rf"${np.exp(middle):.3f}/p$, slope one", "#999999", linestyle="--", linewidth=0.8),
    ]
    title = r"U3, $\delta = 1$, $\sigma = 0.5$; mean and 95% CI over " + ", ".join(map(str, size.seeds))
    title += f" instances, the variance of Gibbs sampling taken off; AMP converges in all but {lost}"
    shared_legend(drawing, handles, title, 4)
    return drawing


FIGURE_3 = Figure(
    f"{PAPER}.figure-3",
    "Does state evolution predict error and reported variance of AMP step by step, whatever the law of the entries?",
    mpl.rc_context(SMALL)(evolution),
)
FIGURE_4 = Figure(
    f"{PAPER}.figure-4",
    "Are the marginals of TAP calibrated where naive mean field's are over-confident, in the hard phase too?",
    calibration,
)
FIGURE_5 = Figure(
    f"{PAPER}.figure-5",
    "How close are the marginal means of TAP and of naive mean field to those of the exact posterior?",
    against_posterior,
)
