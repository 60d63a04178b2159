"""The figures of large-stepsize gradient descent: theory as lines, simulation as points.

Figures 1 and 3 follow Figures 2 and 4 of the network paper (Cai, Wu, Mei, Lindsey, Bartlett, NeurIPS 2024); 4 to 6 show
the linear predictor on the two-point data of Wu, Bartlett, Telgarsky, Yu (COLT 2024); the last one shows real data.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from theorysim.papers.large_stepsize_gd import theory
from theorysim.papers.large_stepsize_gd.claims import (
    BUDGET,
    DATA_STEPSIZES,
    FIXED,
    GAMMA,
    PAIR,
    PAPER,
    STABLE,
    allocation,
    certificate_times,
    constants,
    two_point,
)
from theorysim.papers.large_stepsize_gd.curves import Curve, curves, decade_times
from theorysim.papers.large_stepsize_gd.data import certified_margin, parse_data
from theorysim.papers.large_stepsize_gd.setting import (
    Budget,
    FivePoint,
    LinearPredictor,
    Network,
    Samples,
    Training,
    TwoPoint,
    Xor,
)
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
    size_colors,
    sizes,
)
from theorysim.plots import theory as line
from theorysim.sweep import Experiment
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session


def _operations(setting: Curve) -> float:
    assert STABLE.operations is not None
    return STABLE.operations(setting.training)


CURVES = Experiment(f"{PAPER}/curves", curves, operations=_operations)


class Size(NamedTuple):
    """What a preset draws: runs up to the horizon T, from `seeds` independent initialisations."""

    horizon: int
    seeds: int = 1


SIZES = {
    "figure-1": {"quick": Size(20_000, 8), "standard": Size(40_000, 16), "paper": Size(400_000, 64)},
    "figure-3": {"quick": Size(10_000), "standard": Size(100_000), "paper": Size(1_000_000)},
    "figure-4": {"quick": Size(10_000), "standard": Size(100_000), "paper": Size(1_000_000)},
    "figure-5": {"quick": Size(300_000), "standard": Size(1_000_000), "paper": Size(1_000_000)},
    "figure-6": {"quick": Size(10_000), "standard": Size(100_000), "paper": Size(1_000_000)},
    "digits": {"quick": Size(2000, 6), "standard": Size(20_000, 8), "paper": Size(200_000, 16)},
}
"""Runs from W_0 = 0 are deterministic and have one seed."""

THR = r"\mathrm{thr}"
RISK = r"$L(W_t)$"


# --- measuring --------------------------------------------------------------------------------------------------------


def threshold(training: Training) -> float:
    """thr of a training's predictor, stepsize and number of samples."""
    n = len(training.data.draw()[0])
    return float(theory.stable_threshold(training.eta, n, constants(training, leak(training))))


def leak(training: Training) -> float:
    """c of the predictor; zero for the linear one."""
    return training.predictor.leak if isinstance(training.predictor, Network) else 0.0


def measure(session: Session, trainings: Sequence[Training], seeds: int = 1) -> Sequence[Results]:
    """The curves of each training, with its threshold; see `curves`."""
    return session.measure(CURVES, Design(tuple(Curve(t, threshold(t)) for t in trainings), seeds))


def average_risk(training: Training, results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Times t >= 1 and the average of the risk over k < t, shape (seeds, K)."""
    t = np.asarray(training.times[1:], float)
    return t, results["risk_sum"][:, 1:] / t


def average_risk_bound(training: Training, results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Times t >= 1 and the optimised bound on the average risk, shape (seeds, K)."""
    t = np.asarray(training.times[1:], float)
    eta, gamma, norm2, alignment = (results[name] for name in ("eta", "gamma", "norm2", "alignment"))
    return t, theory.average_risk_bound(t, eta, gamma, norm2, alignment, constants(training, results["leak"]))


# --- drawing ----------------------------------------------------------------------------------------------------------


def stepsize_label(eta: float) -> str:
    """A stepsize for the legend."""
    return rf"$\eta = {eta:g}$"


def stepsize_handles(stepsizes: Sequence[float], colors: Sequence[str]) -> list[Line2D]:
    """A dot for each stepsize."""
    return [proxy(stepsize_label(eta), color, "o") for eta, color in zip(stepsizes, colors, strict=True)]


def switching_times(axes: Axes, results: Results, level: float, color: str) -> None:
    """A star where the risk first falls to `level` = thr: median s and range over seeds, where all get there."""
    s = results["s"]
    if (s >= 0).all():
        middle = np.median(s)
        bar = [[middle - s.min()], [s.max() - middle]] if len(s) > 1 else None
        axes.errorbar([middle], [level], xerr=bar, color=color, marker="*", markersize=7, markeredgecolor=THEORY,
                      markeredgewidth=0.5, linestyle="none", elinewidth=0.8, zorder=4)  # fmt: skip


STAR = proxy(rf"$s$: first $L \leq {THR}$", marker="*", markersize=7, markerfacecolor="white", markeredgewidth=0.5)


# --- figure 1: XOR ----------------------------------------------------------------------------------------------------

XOR_STEPSIZES = (0.5, 2.0, 8.0, 32.0, 128.0)
XOR_NETWORK = Network("softplus", 10, 10, 0.5)


@mpl.rc_context(SMALL)
def xor(session: Session) -> matplotlib.figure.Figure:
    """Risk, scaled risk and margin on XOR; the last two over their limits, which depend on the seed's allocation.

    Drawn are medians over seeds, since risks are skewed at the edge of stability. Seeds that leave a group of neurons
    empty have no limit and are left out; the legend counts the seeds that are in.
    """
    size = SIZES["figure-1"][session.preset]
    times = decade_times(size.horizon, 6)
    runs = [Training(Xor(), XOR_NETWORK, eta, times, scale=1.0) for eta in XOR_STEPSIZES]
    drawing, axes = canvas(1, 3, width=TEXT, height=2.9)
    risk_axes, scaled_axes, margin_axes = axes[0]
    t, m = np.asarray(times[1:], float), XOR_NETWORK.width
    colors = size_colors(len(runs))
    counts, rises = set(), []
    for training, color, results in zip(runs, colors, measure(session, runs, size.seeds), strict=True):
        counted = allocation(training, results)
        full = (counted > 0).all(1)
        counts.add(int(full.sum()))
        if not full.any():
            continue
        results = {name: array[full] for name, array in results.items()}
        constant = theory.xor_constant(counted[full], XOR_NETWORK.leak, m)
        limit = theory.xor_margin(counted[full], XOR_NETWORK.leak, m)
        scaled = training.eta * t * results["risk"][:, 1:]
        margin = np.sqrt(m) * results["min_margin"][:, 1:] / results["norm"][:, 1:]
        draw = partial(points, label=None, color=color, median=True)
        draw(risk_axes, t, results["risk"][:, 1:])
        draw(scaled_axes, t, scaled / constant[:, None])
        draw(margin_axes, t, margin / limit[:, None])
        stable = t >= np.median(results["s"]) if (results["s"] >= 0).all() else t >= t[-1]
        line(risk_axes, t[stable], np.median(constant) / (training.eta * t[stable]), label=None, color=color)
        switching_times(risk_axes, results, threshold(training), color)
        last = results["last_increase"][results["last_increase"] >= 0]
        if last.size:
            rises.append(training.eta)
            middle = np.median(last)
            level = np.exp(np.interp(np.log(middle), np.log(t), np.log(np.median(results["risk"][:, 1:], axis=0))))
            risk_axes.plot([middle], [level], marker="x", markersize=5, color=COLORS[1], linestyle="none", zorder=5)
    line(scaled_axes, t[[0, -1]], np.ones(2), label=None)
    line(margin_axes, t[[0, -1]], np.ones(2), label=None)
    risk_axes.set(xscale="log", yscale="log", xlabel="$t$", ylabel=RISK)
    scaled_axes.set(
        xscale="log", yscale="log", xlabel="$t$", ylabel=r"$\eta\, t\, L(W_t) \;/\; [\,m S/(1-c)^2\,]$", ylim=(0.05, 3)
    )
    margin_axes.set(
        xscale="log", xlabel="$t$", ylabel=r"$\Gamma(W_t) \;/\; [\,(1-c)/\sqrt{m S}\,]$", xlim=(7, None), ylim=(0, 1.1)
    )
    letters(axes[0], ("risk", "scaled risk / limit", r"margin $\Gamma = \sqrt{m}\,\bar\gamma$ / limit"))
    handles = stepsize_handles(XOR_STEPSIZES, colors)
    handles += [proxy(r"limits; $L \sim m S/((1-c)^2\, \eta\, t)$", linestyle="-"), STAR]
    if rises:
        named = ", ".join(f"{eta:g}" for eta in rises)
        handles.append(proxy(rf"last increase of $L$ ($\eta = {named}$)", COLORS[1], "x", markersize=5))
    seeds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    title = f"XOR, {sizes(n=4, d=2, m=m, c=XOR_NETWORK.leak, T=size.horizon)}; median over {seeds} seeds, bars: 95% CI"
    shared_legend(drawing, handles, title, 4)
    return drawing


# --- figure 3: five points --------------------------------------------------------------------------------------------

FIVE_POINT_STEPSIZES = (1.5, 3.0)


def five_points(session: Session) -> matplotlib.figure.Figure:
    """Margin of a network of two neurons, which becomes positive, and of its neurons, which stay negative."""
    size = SIZES["figure-3"][session.preset]
    times = decade_times(size.horizon, 8)
    runs = [Training(FivePoint(scaled=False), PAIR, eta, times) for eta in FIVE_POINT_STEPSIZES]
    # The points leave the unit ball, so the threshold does not apply: zero, which is never reached.
    measured = session.measure(CURVES, Design(tuple(Curve(training, 0.0) for training in runs)))
    drawing, axes = canvas(2, len(runs), width=TEXT, height=4.4, sharex=True)
    t = np.asarray(times[1:], float)
    _, _, gamma, _ = FivePoint(scaled=False).draw()
    aligned = gamma * np.sqrt(theory.one_sample_margin2(PAIR.plus, PAIR.minus, PAIR.leak) / PAIR.width)
    series = (("network", "o"), ("neuron $a_1 = +1$", "^"), ("neuron $a_2 = -1$", "v"))
    for (panel, close), training, results in zip(axes.T, runs, measured, strict=True):
        network = results["min_margin"][:, 1:] / results["norm"][:, 1:]
        margins = (network, *np.moveaxis(results["neuron_margins"][:, 1:], -1, 0))
        for samples, (name, marker), color in zip(margins, series, COLORS, strict=False):
            points(panel, t, samples, label=name, color=color, marker=marker)
        points(close, t, network, label=None)
        for axis in (panel, close):
            axis.axhline(0, color=THEORY, linewidth=0.6, zorder=1)
            line(axis, t[[0, -1]], np.full(2, aligned), label=None)
            line(axis, t[[0, -1]], np.full(2, gamma), label=None, bound=True)
        panel.set(xscale="log", title=f"{stepsize_label(training.eta)} (stepsize ${PAIR.width * training.eta:g}$)")
        close.set(xlabel="$t$", ylim=(-0.065, 0.065))
    axes[0, 0].set_ylabel("normalised margin")
    axes[1, 0].set_ylabel("normalised margin, near zero")
    handles = [proxy(name, color, marker) for (name, marker), color in zip(series, COLORS, strict=False)]
    handles += [
        proxy(rf"limit of the network, ${aligned:.4f}$", linestyle="-"),
        proxy(rf"$\gamma = {gamma:g}$, limit of each neuron", linestyle="--"),
    ]
    named = sizes(n=5, d=3, m=PAIR.width, c=PAIR.leak, T=size.horizon)
    title = f"five points (unscaled), {named}, $W_0 = 0$: deterministic"
    shared_legend(drawing, handles, title, 3)
    return drawing


# --- figures 4 to 6: two points ---------------------------------------------------------------------------------------


def two_point_sizes(horizon: int) -> str:
    """The title of a legend for runs of `two_point`."""
    return f"two points, linear, {sizes(n=2, d=2, T=horizon)}, " + rf"$\gamma = {GAMMA:g}$, $w_0 = 0$: deterministic"


PORTRAIT_STEPSIZES = (1.0, 16.0, 30.0, 120.0, 480.0)
EARLY = 40


@mpl.rc_context(SMALL)
def phase_portrait(session: Session) -> matplotlib.figure.Figure:
    """Risk on the two-point data for stepsizes on both sides of the largest monotone one."""
    size = SIZES["figure-4"][session.preset]
    times = certificate_times(size.horizon)
    runs = [two_point(eta, times) for eta in PORTRAIT_STEPSIZES]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.1, sharey=True)
    early_axes, late_axes = axes[0]
    t = np.asarray(times, float)
    sparse = np.searchsorted(t, [time for time in decade_times(size.horizon, 8)[1:] if time in times or time > EARLY])
    colors = size_colors(len(runs))
    for training, color, results in zip(runs, colors, measure(session, runs), strict=True):
        risk, level = results["risk"], threshold(training)
        early = t <= EARLY
        points(early_axes, t[early], risk[:, early], label=None, color=color)
        early_axes.plot(t[early], risk[0, early], color=color, linewidth=0.5, zorder=1)
        points(late_axes, t[sparse], risk[:, sparse], label=None, color=color)
        for panel in axes[0]:
            panel.axhline(level, color=color, linestyle="--", linewidth=0.8, zorder=1)
            switching_times(panel, results, level, color)
    early_axes.set(xlim=(-1, EARLY + 1), yscale="log", xlabel="$t$", ylabel="$L(w_t)$")
    late_axes.set(xscale="log", xlabel="$t$", ylim=(1e-7, 100))
    letters(axes[0], ("every step", "to the horizon"))
    handles = stepsize_handles(PORTRAIT_STEPSIZES, colors)
    handles.append(proxy(rf"${THR} = 1/(4\eta)$; at $\eta = 1$: $1/(4 e^2)$", linestyle="--"))
    shared_legend(drawing, [*handles, STAR], two_point_sizes(size.horizon), 4)
    return drawing


BUDGETS = (10_000, 30_000, 100_000, 300_000, 1_000_000)


def budgets(session: Session) -> tuple[int, ...]:
    """Budgets T of a preset."""
    return tuple(T for T in BUDGETS if SIZES["figure-5"][session.preset].horizon >= T)


def risk_at_budgets(
    session: Session, predictor: LinearPredictor | Network, stepsizes: Float[np.ndarray, " budgets"]
) -> Float[np.ndarray, "1 budgets"]:
    """L(W_T) on the two-point data for each budget T, run with its own stepsize."""
    horizons = budgets(session)
    settings = tuple(
        Budget(Training(TwoPoint(GAMMA), predictor, float(eta), horizons), float(T))
        for eta, T in zip(stepsizes, horizons, strict=True)
    )
    measured = session.measure(BUDGET, Design(settings))
    return np.stack([results["risk"][:, i] for i, results in enumerate(measured)], axis=1)


def acceleration(session: Session) -> matplotlib.figure.Figure:
    """Risk at the budget T with a stepsize proportional to T, and with one that keeps the risk monotone."""
    T = np.asarray(budgets(session), float)
    proportional, fixed = theory.acceleration_stepsize(GAMMA, T), np.full(len(T), FIXED)
    drawing, axes = canvas(1, 1, width=TEXT, height=3.0)
    panel = axes[0, 0]
    span = np.geomspace(T[0], T[-1], 50)
    of_time = r"$\eta = \gamma^2 T/120$"
    series = (
        (f"{of_time}, linear", "o", LinearPredictor(), proportional),
        (f"{of_time}, network", "s", PAIR, proportional),
        (f"{stepsize_label(FIXED)} (monotone), linear", "^", LinearPredictor(), fixed),
    )
    laws = (
        (r"$120/(\gamma^4 T^2)$", theory.acceleration_constant(GAMMA) / span**2),
        (r"$240/(\gamma^4 (1+c^2)\, T^2)$", theory.acceleration_constant(GAMMA, PAIR.leak) / span**2),
        (r"$1/(16\, \gamma^2 T)$", 1 / (FIXED * GAMMA**2 * span)),
    )
    handles = []
    for (name, marker, predictor, stepsizes), (formula, law), color in zip(series, laws, COLORS, strict=False):
        line(panel, span, law, label=None, color=color)
        points(panel, T, risk_at_budgets(session, predictor, stepsizes), label=None, color=color, marker=marker)
        handles += [proxy(name, color, marker), proxy(formula, color, linestyle="-")]
    panel.set(xscale="log", yscale="log", xlabel="$T$", ylabel="$L(W_T)$")
    title = f"two points\n{sizes(n=2, d=2)}, " + rf"$\gamma = {GAMMA:g}$, $W_0 = 0$"
    title += f"\nnetwork: {sizes(m=PAIR.width, c=PAIR.leak)}\ndeterministic"
    drawing.legend(handles=handles, title=title, title_fontsize=7, loc="outside right center")
    return drawing


BOUND_STEPSIZES = (1.0, 10.0, 100.0, 1000.0)


def bound_tightness(session: Session) -> matplotlib.figure.Figure:
    """Average risk on the two-point data with the optimised bound and the closed form for W_0 = 0."""
    size = SIZES["figure-6"][session.preset]
    times = decade_times(size.horizon, 4)
    runs = [two_point(eta, times) for eta in BOUND_STEPSIZES]
    drawing, axes = canvas(2, 2, width=TEXT, height=4.4, sharex=True)
    for panel, training, results in zip(axes.flat, runs, measure(session, runs), strict=True):
        t, average = average_risk(training, results)
        points(panel, t, average, label=None)
        line(panel, t, average_risk_bound(training, results)[1][0], label=None, bound=True)
        closed = theory.average_risk_bound_closed_linear(t, training.eta, GAMMA)
        panel.plot(t, closed, color=COLORS[1], linestyle=":")
        panel.set(xscale="log", yscale="log")
    letters(axes.flat, [stepsize_label(eta) for eta in BOUND_STEPSIZES])
    for panel in axes[-1]:
        panel.set_xlabel("$t$")
    for panel in axes[:, 0]:
        panel.set_ylabel("average risk")
    handles = [
        proxy(r"$\frac{1}{t} \sum_{k<t} L(w_k)$", COLORS[0], "o"),
        proxy("optimised bound", linestyle="--"),
        proxy(r"closed form ($\gamma^2 \eta\, t \geq 1$)", COLORS[1], linestyle=":"),
    ]
    shared_legend(drawing, handles, two_point_sizes(size.horizon), 3)
    return drawing


# --- real data --------------------------------------------------------------------------------------------------------


def data_runs(samples: Samples, size: Size, predictor: LinearPredictor | Network) -> list[Training]:
    """Runs on given data: a linear predictor from the origin, a network from random weights of norm near sqrt(m)."""
    scale = 0.0 if isinstance(predictor, LinearPredictor) else samples.X.shape[1] ** -0.5
    return [Training(samples, predictor, eta, decade_times(size.horizon, 6), scale) for eta in DATA_STEPSIZES]


@mpl.rc_context(SMALL)
def risk_on_data(source: str, rescale: bool, session: Session) -> matplotlib.figure.Figure:
    """Risk and its average on a data set, linear predictor above, leaky network below, with thresholds and bounds."""
    samples = samples_of(source, rescale)
    size = SIZES["digits"][session.preset]
    network = Network("softplus", 2, 2, 0.5) if session.preset == "quick" else Network("softplus", 8, 8, 0.5)
    rows = ((LinearPredictor(), Size(size.horizon), "linear"), (network, size, rf"network, $m = {network.width}$"))
    drawing, axes = canvas(2, 2, width=TEXT, height=5.2, sharex=True)
    colors = size_colors(len(DATA_STEPSIZES))
    for (risk_axes, average_axes), (predictor, chosen, _) in zip(axes, rows, strict=True):
        runs = data_runs(samples, chosen, predictor)
        levels = [threshold(training) for training in runs]
        for level, color in dict(zip(levels, colors, strict=True)).items():
            shade = color if levels.count(level) == 1 else THEORY
            risk_axes.axhline(level, color=shade, linestyle="--", linewidth=0.8, zorder=1)
        measured = measure(session, runs, chosen.seeds)
        for training, level, color, results in zip(runs, levels, colors, measured, strict=True):
            t, average = average_risk(training, results)
            points(risk_axes, t, results["risk"][:, 1:], label=None, color=color, median=True)
            switching_times(risk_axes, results, level, color)
            points(average_axes, t, average, label=None, color=color, median=True)
            bound = average_risk_bound(training, results)[1]
            line(average_axes, t, np.median(bound, axis=0), label=None, color=color, bound=True)
        for panel in (risk_axes, average_axes):
            panel.set(xscale="log", yscale="log")
        risk_axes.set_ylabel(RISK)
        average_axes.set_ylabel("average of $L(W_k)$ over $k < t$")
    letters(axes.flat, [f"{what}, {name}" for _, _, name in rows for what in ("risk", "average risk")])
    for panel in axes[-1]:
        panel.set_xlabel("$t$")
    handles = stepsize_handles(DATA_STEPSIZES, colors)
    handles += [proxy(rf"left: ${THR}$; right: bound of the EoS phase", linestyle="--"), STAR]
    n, d = samples.X.shape
    name = samples.name.replace("$", r"\$")
    title = f"{name}, {sizes(n=n, d=d, T=size.horizon)}, " + rf"$\gamma = {samples.gamma:.3g}$; "
    title += rf"linear: $w_0 = 0$; network: $c = 0.5$, median over {size.seeds} seeds, bars: 95% CI"
    shared_legend(drawing, handles, title, 3)
    return drawing


def samples_of(source: str, rescale: bool = False) -> Samples:
    """A data set by name or path, with its certified margin. Raises InputError where it is not admissible."""
    data = parse_data(source, rescale)
    margin = certified_margin(data.X, data.y)
    return Samples(data.name, data.X, data.y, max(margin.lower, 0.0), margin.direction)


def on_data(source: str, rescale: bool = False) -> tuple[Figure, ...]:
    """The figure of a user's data set, "digits", "digits:3,8" or a path to an .npz. Raises InputError likewise."""
    name = " ".join(samples_of(source, rescale).name.split())
    question = f"Risk on {name} at several stepsizes, with thresholds, switching times and bounds."
    return (Figure(f"{PAPER}.{name}", question, partial(risk_on_data, source, rescale)),)


FIGURES = (
    Figure(
        f"{PAPER}.figure-1",
        "XOR: do risk and margin reach the limits given by the allocation of the neurons, at every stepsize?",
        xor,
    ),
    Figure(
        f"{PAPER}.figure-3",
        "Five points: does the network separate the data with a margin while neither of its neurons does?",
        five_points,
    ),
    Figure(
        f"{PAPER}.figure-4",
        "Two points: how does the risk oscillate and then fall for good, once under the threshold of its stepsize?",
        phase_portrait,
    ),
    Figure(
        f"{PAPER}.figure-5",
        "Acceleration: what does a stepsize proportional to the budget T gain over one that keeps the risk monotone?",
        acceleration,
    ),
    Figure(
        f"{PAPER}.figure-6",
        "Edge of stability: how far are the bounds on the average risk from the average risk?",
        bound_tightness,
    ),
    Figure(
        f"{PAPER}.digits",
        "Handwritten digits 3 and 8: risk at several stepsizes, with thresholds, switching times and bounds.",
        partial(risk_on_data, "digits", False),
    ),
)
