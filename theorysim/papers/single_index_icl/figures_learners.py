"""Figures on risk against prompt length: pretrained models, learners of the test prompt alone, and what is the best possible."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from theorysim.errors import require
from theorysim.papers.single_index_icl.figures_pretraining import MARKERS, ticks
from theorysim.papers.single_index_icl.measurements import (
    ALONE,
    DECODING,
    NETWORK,
    TRAINING,
    Alone,
    Decoding,
    Network,
    Training,
    alignment_of,
    risk_held_out,
)
from theorysim.papers.single_index_icl.own import describe, report
from theorysim.papers.single_index_icl.regression import PAPER, PLANE, Plane, link_of
from theorysim.papers.single_index_icl.setting import HE2, MIX, Coefficients, Link, Tasks
from theorysim.papers.single_index_icl.theory import kernel_regression, prompt_only, stage_one
from theorysim.papers.single_index_icl.theory.attention_floor import attention_floor
from theorysim.plots import (
    COLORS,
    SMALL,
    TEXT,
    Figure,
    band,
    canvas,
    letters,
    points,
    proxy,
    shared_legend,
    size_colors,
    spread,
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

TAU, RIDGE = 0.1, 0.01
"""Noise of the default settings, and the ridge of kernel regression."""
N1 = 64
"""Length of the prompts of Stage I; longer ones save tasks but no examples."""
LEARNER = {"attention": COLORS[0], "unknown": COLORS[1], "known": COLORS[2], "ridge": COLORS[3], "network": COLORS[4]}
EXAMPLES, RISK = "$N^*$", r"$E\,(\hat f - f)^2$"


class Size(NamedTuple):
    """Sizes of the measurements behind a curve.

    multiple: T1 in units of T1*, unless T1 N1 then exceeds `tokens`. m, T2, N2: of Stage II. lengths: N*. seeds: pretraining runs.
    tests: prompts. networks: lengths of the networks' prompts, each of which divides the last. tasks: for networks. draws: for
    kernel regressions and Bayes.
    """

    multiple: float
    tokens: float
    m: int
    T2: int
    lengths: tuple[int, ...]
    seeds: int
    tests: int
    networks: tuple[int, ...]
    tasks: int
    draws: int
    N2: int = 256


SIZES = {
    "quick": Size(6.0, 4e6, 64, 1500, (16, 64, 256, 1024), 4, 128, (16, 64, 256), 6, 6),
    "standard": Size(
        10.0, 4e7, 96, 3000, (16, 32, 64, 128, 256, 512, 1024), 8, 256, (16, 32, 64, 128, 256, 512), 16, 24
    ),
    "paper": Size(
        20.0, 1e10, 384, 20_000, (16, 32, 64, 128, 256, 512, 1024), 8, 4000, (16, 32, 64, 128, 256, 512), 64, 64
    ),
}


# --- measurements -----------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """setting: of the models. risk: of each seed at the lengths. alignment: samples of it. critical: T1*."""

    setting: Training
    risk: Float[np.ndarray, "S lengths"]
    alignment: Float[np.ndarray, " S"]
    critical: float


def pretrained(session: Session, tasks: Tasks, size: Size, bias: float = 0.0) -> Trained:
    """Two-stage models. Raises InputError where neurons of that bias do not see the link."""
    star = stage_one.critical_tasks(stage_one.Prompts(link_of(tasks.link), tasks.d, tasks.r, N1, tasks.tau), bias)
    T1 = max(100, round(min(size.multiple * star, size.tokens / N1)))
    setting = Training(tasks, T1, size.lengths, bias, N1, size.m, size.T2, size.N2, size.tests)
    (results,) = session.measure(TRAINING, Design((setting,), size.seeds))
    return Trained(setting, risk_held_out(results), alignment_of(results), star)


def prompt_only_risks(session: Session, tasks: Tasks, size: Size) -> dict[str, np.ndarray]:
    """Of kernel regression and of the linear optimum, at the lengths."""
    (results,) = session.measure(ALONE, Design((Alone(tasks, size.lengths, RIDGE),), size.draws))
    return results


def network_risks(session: Session, tasks: Tasks, size: Size) -> Float[np.ndarray, "S lengths"]:
    """Of two-layer networks trained on the prompt."""
    settings = tuple(Network(tasks, n, size.networks[-1]) for n in size.networks)
    return np.stack([found["risk"] for found in session.measure(NETWORK, Design(settings, size.tasks))], axis=1)


def dense(lengths: tuple[int, ...]) -> Float[np.ndarray, " K"]:
    """Lengths of the lines."""
    return np.geomspace(lengths[0] / 1.5, lengths[-1] * 1.5, 50)


def beside(lengths: tuple[int, ...], place: int, series: int) -> Float[np.ndarray, " K"]:
    """Lengths of the points of one of several series, moved apart."""
    return np.array(lengths, float) * 1.07 ** (place - (series - 1) / 2)


def finish(panel: Axes, lengths: tuple[int, ...], *, log: bool = True) -> None:
    """Axes of risk against length."""
    panel.set(xscale="log", xlabel=EXAMPLES)
    if log:
        panel.set_yscale("log")
    ticks(panel, np.array(lengths[:: 1 + len(lengths) // 6], float))
    panel.yaxis.set_minor_formatter(NullFormatter())


# --- figure 1: the learners of the paper ------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """Dimensions d at one r, and the decoder that is trained beside, if any."""

    d: tuple[int, ...]
    r: int
    link: Link
    decoder: dict[str, Any] | None = None


GPT2: dict[str, Any] = {"examples": 257, "width": 256, "layers": 12, "heads": 8, "steps": 200_000}
"""The decoder of the paper; the figures train it on an accelerator alone."""

COMPARISONS = {
    "quick": Comparison((8, 16), 2, HE2),
    "standard": Comparison((8, 16), 2, HE2),
    "paper": Comparison((16, 32), 8, MIX, GPT2),
}


def decoder_curve(panel: Axes, session: Session, tasks: Tasks, sizes: dict[str, Any], color: str) -> None:
    """Risk of a decoder after 1, 2, ... examples, with a 95% CI over test prompts."""
    (results,) = session.measure(DECODING, Design((Decoding(tasks, **sizes),)))
    N = np.arange(1, sizes["examples"])
    risk, error = results["risk"][0, 1:], 1.96 * results["error"][0, 1:]
    band(panel, N.astype(float), risk - error, risk + error, color=color)
    panel.plot(N, risk, color=color, linestyle="-.", linewidth=0.9)


def with_deviation(
    panel: Axes, N: tuple[int, ...], samples: Float[np.ndarray, "S lengths"], color: str, marker: str, style: str
) -> None:
    """Means with their 95% CI, joined, in a band of one standard deviation over the samples."""
    x, mean, deviation = np.array(N, float), samples.mean(0), samples.std(0, ddof=1)
    band(panel, x, np.maximum(mean - deviation, 1e-3), mean + deviation, color=color)
    panel.plot(x, mean, color=color, linestyle=style, linewidth=0.8)
    points(panel, x, samples, label=None, color=color, marker=marker)


@mpl.rc_context(SMALL)
def learners(session: Session) -> matplotlib.figure.Figure:
    """Risk against prompt length in two dimensions: learners of the prompt alone, and pretrained models."""
    size, case = SIZES[session.preset], COMPARISONS[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.3, sharey=True)
    single, before = axes[0]
    handles = []
    for d, style, marker in zip(case.d, ("-", "--", ":"), "os^", strict=False):
        tasks = Tasks(d, case.r, case.link, TAU)
        ridge = prompt_only_risks(session, tasks, size)["ridge"]
        with_deviation(single, size.lengths, ridge, LEARNER["ridge"], marker, style)
        networks = network_risks(session, tasks, size)
        with_deviation(single, size.networks, networks, LEARNER["network"], marker, style)
        model = pretrained(session, tasks, size)
        with_deviation(before, size.lengths, model.risk, LEARNER["attention"], marker, style)
        if case.decoder:
            decoder_curve(before, session, tasks, case.decoder, COLORS[5])
        handles.append(proxy(f"$d = {d}$", marker=marker, linestyle=style))
    N = dense(size.lengths)
    line(before, N, attention_floor(N, link_of(case.link), case.r, TAU), label=None)
    for panel in axes[0]:
        finish(panel, size.lengths)
    single.set_ylabel(RISK)
    single.set_ylim(top=4)
    letters(axes[0], ("trained on the prompt", "pretrained on other tasks"))
    handles += [
        proxy(rf"(a) kernel ridge regression, $\delta = {RIDGE:g}$", LEARNER["ridge"], linestyle="-"),
        proxy("(a) two-layer network, AdamW", LEARNER["network"], linestyle="-"),
        proxy("(b) one-layer transformer, two stages", LEARNER["attention"], linestyle="-"),
        proxy(rf"(b) least of linear attention, $\mathrm{{Fl}}_N(r)$, $r = {case.r}$", linestyle="-"),
    ]
    if case.decoder:
        handles.append(proxy("(b) decoder of 12 layers", COLORS[5], linestyle="-."))
    title = rf"{describe(case.link)}, $r = {case.r}$, $\tau = {TAU:g}$; {size.draws} draws, {size.tasks} tasks, {size.seeds} "
    title += rf"pretrained models of $m = {size.m}$, $T_2 = {size.T2}$" + "\n"
    title += "bars: 95% CI of the mean; bands: one standard deviation"
    shared_legend(drawing, handles, title, 2)
    return drawing


# --- figure 2: dimensions d and r -------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """(a) several d at one r, (b) several r at one d; the decoder that is trained beside, if any."""

    d: tuple[int, ...]
    r_of_d: int
    r: tuple[int, ...]
    d_of_r: int
    link: Link
    decoder: dict[str, Any] | None = None


GRIDS = {
    "quick": Grid((8, 12, 16), 2, (2, 3, 4), 12, HE2),
    "standard": Grid((8, 12, 16, 24), 2, (2, 3, 4, 6), 16, HE2),
    "paper": Grid((16, 32, 64), 8, (2, 4, 8, 16), 32, MIX, GPT2),
}


@mpl.rc_context(SMALL)
def dimensions(session: Session) -> matplotlib.figure.Figure:
    """Risk of pretrained models against prompt length: in several dimensions d, and for several r."""
    size, grid = SIZES[session.preset], GRIDS[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.3, sharey=True)
    cases = (
        [Tasks(d, grid.r_of_d, grid.link, TAU) for d in grid.d],
        [Tasks(grid.d_of_r, r, grid.link, TAU) for r in grid.r],
    )
    N, handles = dense(size.lengths), []
    for panel, letter, tasks_of_panel in zip(axes[0], "ab", cases, strict=True):
        colors = size_colors(len(tasks_of_panel))
        for place, (tasks, color, marker) in enumerate(zip(tasks_of_panel, colors, MARKERS, strict=False)):
            model = pretrained(session, tasks, size)
            x = beside(size.lengths, place, len(tasks_of_panel))
            points(panel, x, model.risk, label=None, color=color, marker=marker)
            floor = attention_floor(N, link_of(tasks.link), tasks.r, TAU)
            line(panel, N, floor, label=None, color=color if letter == "b" else "#222222")
            if letter == "a":
                outer = attention_floor(N, link_of(tasks.link), tasks.d, TAU)
                line(panel, N, outer, label=None, color=color, bound=True)
            if grid.decoder:
                decoder_curve(panel, session, tasks, grid.decoder, color)
            name = f"$d = {tasks.d}$" if letter == "a" else f"$r = {tasks.r}$"
            share = float(model.alignment.mean())
            handles.append(proxy(f"({letter}) {name}, alignment {share:.2f}", color, marker))
        finish(panel, size.lengths)
    axes[0, 0].set_ylabel(RISK)
    letters(
        axes[0], (f"$r = {grid.r_of_d}$: the same for all $d$", f"$d = {grid.d_of_r}$: longer prompts for larger $r$")
    )
    handles += [
        proxy(r"least of linear attention, $\mathrm{Fl}_N(r)$", linestyle="-"),
        proxy(r"(a) the least without the subspace, $\mathrm{Fl}_N(d)$", linestyle="--"),
    ]
    if grid.decoder:
        handles.append(proxy("decoder of 12 layers", linestyle="-."))
    title = rf"{describe(grid.link)}, $\tau = {TAU:g}$; two-stage models, $m = {size.m}$, $T_2 = {size.T2}$, $N_2 = {size.N2}$, "
    title += f"{size.seeds} seeds, mean and 95% CI"
    shared_legend(drawing, handles, title, 3)
    return drawing


# --- figure 4: what is possible ---------------------------------------------------------------------------------------

BAYES = (4, 16, 64, 256, 1024)
ANGLES = 8192


class Possible(NamedTuple):
    """Dimensions d, one panel each, at one r."""

    d: tuple[int, ...]
    r: int
    link: Link


POSSIBLE = {
    "quick": Possible((8, 16), 2, HE2),
    "standard": Possible((8, 16, 32), 2, HE2),
    "paper": Possible((16, 32, 64), 4, HE2),
}


@mpl.rc_context(SMALL)
def possible(session: Session) -> matplotlib.figure.Figure:
    """Trained model, networks and kernel regression against floors, linear optima and Bayes."""
    size, case = SIZES[session.preset], POSSIBLE[session.preset]
    drawing, axes = canvas(1, len(case.d), width=TEXT, height=3.9, sharey=True)
    x, N, law = np.array(size.lengths, float), dense(size.lengths), link_of(case.link)
    for panel, d in zip(axes[0], case.d, strict=True):
        tasks = Tasks(d, case.r, case.link, TAU)
        curves: dict[str, tuple[kernel_regression.Spectrum, float]] = {
            "known": (kernel_regression.prior_spectrum(law, case.r), TAU**2),
            "unknown": (kernel_regression.prior_spectrum(law, d), TAU**2),
            "ridge": (kernel_regression.gaussian_spectrum(law, d), RIDGE),
        }
        risks = prompt_only_risks(session, tasks, size)
        for (name, (spectrum, ridge)), marker in zip(curves.items(), "^sD", strict=True):
            line(
                panel,
                N,
                kernel_regression.ridge_regression_risk(N, spectrum, ridge, TAU),
                label=None,
                color=LEARNER[name],
            )
            points(panel, x, risks[name], label=None, color=LEARNER[name], marker=marker)
        networks = network_risks(session, tasks, size)
        points(panel, np.array(size.networks, float), networks, label=None, color=LEARNER["network"], marker="v")
        line(panel, N, attention_floor(N, law, case.r, TAU), label=None, color=LEARNER["attention"])
        line(panel, N, attention_floor(N, law, d, TAU), label=None, color=LEARNER["attention"], bound=True)
        model = pretrained(session, tasks, size)
        points(panel, x, model.risk, label=None, color=LEARNER["attention"])
        if case.r == 2 and isinstance(case.link, Coefficients):
            plane = Plane(case.link, TAU, BAYES, angles=ANGLES)
            (results,) = session.measure(PLANE, Design((plane,), 16 * size.draws))
            shown = np.array(BAYES) >= size.lengths[0]
            points(
                panel,
                np.array(BAYES, float)[shown],
                results["bayes"][:, shown],
                label=None,
                color="#222222",
                marker="x",
            )
            limits = prompt_only.large_prompt_limits(law, case.r)
            panel.plot(N, limits.bayes * TAU**2 / N, color="#222222", linestyle=":")
        finish(panel, size.lengths)
        panel.set_ylim(bottom=5e-6, top=4)
    axes[0, 0].set_ylabel(RISK)
    letters(axes[0], tuple(f"$d = {d}$" for d in case.d))
    handles = [
        proxy("two-stage linear attention", LEARNER["attention"], "o"),
        proxy(r"its least risk, $\mathrm{Fl}_N(r)$", LEARNER["attention"], linestyle="-"),
        proxy(r"$\mathrm{Fl}_N(d)$: subspace unknown", LEARNER["attention"], linestyle="--"),
        proxy("linear optimum, $S$ known", LEARNER["known"], "^", "-"),
        proxy("linear optimum, $S$ unknown", LEARNER["unknown"], "s", "-"),
        proxy("kernel ridge regression", LEARNER["ridge"], "D", "-"),
        proxy("two-layer network on the prompt", LEARNER["network"], "v"),
    ]
    if case.r == 2:
        handles.append(proxy(r"Bayes, $S$ known; $\tau^2 (r - 1)/N$", marker="x", linestyle=":"))
    title = rf"{describe(case.link)}, $r = {case.r}$, $\tau = {TAU:g}$; $m = {size.m}$, $T_2 = {size.T2}$, $N_2 = {size.N2}$, "
    title += f"{size.seeds} models, {size.draws} draws, {size.tasks} tasks; mean and 95% CI\n"
    title += "lines of linear optima and kernel regression: deterministic equivalent, low just beyond a transition"
    shared_legend(drawing, handles, title, 3)
    return drawing


# --- risk against prompt length for any link --------------------------------------------------------------------------


@mpl.rc_context(SMALL)
def prompt_length(
    session: Session,
    link: Link,
    d: tuple[int, ...],
    r: tuple[int, ...],
    tau: float,
    bias: float,
    size: Size | None = None,
) -> matplotlib.figure.Figure:
    """Risk of two-stage models against prompt length for each d and r, with the floors; prints both."""
    size = SIZES[session.preset] if size is None else size
    print(report(link, bias))
    drawing, axes = canvas(1, 1, width=0.7 * TEXT, height=3.6)
    panel = axes[0, 0]
    N, law, handles = dense(size.lengths), link_of(link), []
    pairs = [(k, n) for k in r for n in d]
    models = [pretrained(session, Tasks(n, k, link, tau), size, bias) for k, n in pairs]
    for k, color in zip(r, COLORS * len(r), strict=False):
        line(panel, N, attention_floor(N, law, k, tau), label=None, color=color)
        handles.append(proxy(rf"$\mathrm{{Fl}}_N({k})$, $r = {k}$", color, linestyle="-"))
        for n, marker in zip(d, MARKERS * len(d), strict=False):
            place = pairs.index((k, n))
            model = models[place]
            x = beside(size.lengths, place, len(pairs))
            points(panel, x, model.risk, label=None, color=color, marker=marker)
            share = float(model.alignment.mean())
            handles.append(proxy(f"$d = {n}$, $r = {k}$: alignment {share:.2f}", color, marker))
            tell(model, attention_floor(np.array(size.lengths), law, k, tau))
    panel.axhline(law.variance, color="#888888", linestyle=":", linewidth=0.9)
    handles.append(proxy("$v = E f^2$: nothing learned", "#888888", linestyle=":"))
    finish(panel, size.lengths)
    panel.set_ylabel(RISK)
    title = rf"{describe(link)}, $\tau = {tau:g}$, $b = {bias:g}$ in Stage I" + "\n"
    title += rf"$m = {size.m}$, $T_2 = {size.T2}$, $N_2 = {size.N2}$; {size.seeds} models, mean and 95% CI"
    shared_legend(drawing, handles, title, 2)
    return drawing


def tell(model: Trained, floor: Float[np.ndarray, " lengths"]) -> None:
    """Print the risks of a model beside the floor."""
    s = model.setting
    share = s.T1 / model.critical if model.critical else np.inf
    print(
        f"d = {s.tasks.d}, r = {s.tasks.r}: T1 = {s.T1:g} tasks, {share:.3g} times T1* = {model.critical:.4g}; alignment"
        f" {float(model.alignment.mean()):.3f}" + ("; this preset has no more tasks" if share < 1 else "")
    )
    centre, distances = spread(model.risk)
    for N, found, width, least in zip(s.lengths, centre, distances[0], floor, strict=True):
        print(f"  N* = {N:<6d} risk {found:.4g} +- {width:.2g}, floor {least:.4g}")


def check_lengths(lengths: tuple[int, ...]) -> None:
    """Raise InputError unless lengths are at least 1 and increase."""
    rising = len(lengths) > 0 and lengths[0] >= 1 and all(a < b for a, b in pairwise(lengths))
    require(rising, f"prompt lengths must be at least 1 and increase, got {', '.join(map(str, lengths))}")


FIGURE_1 = Figure(
    f"{PAPER}.figure-1",
    "Do pretrained models need longer prompts in larger dimensions, as other learners do?",
    learners,
)
FIGURE_2 = Figure(f"{PAPER}.figure-2", "Does the risk of a pretrained model depend on r and not on d?", dimensions)
FIGURE_4 = Figure(
    f"{PAPER}.figure-4",
    "How far is a pretrained model from what is possible with, and without, the subspace?",
    possible,
)
