"""Message passing and TAP on designs X of many kinds: independent entries, an orthogonal matrix, real data, a file of one's own."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.figures_inference import hollow
from theorysim.papers.tap_amp.inference import PAPER, TRAJECTORY, Trajectory
from theorysim.papers.tap_amp.matrices import GIVEN, ROTATED, Given, Matrix, Rotated, bundled, load_matrix, permuted
from theorysim.papers.tap_amp.setting import Law, LinearModel, model, three_point
from theorysim.plots import COLORS, SMALL, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, sizes
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session

QUESTION = "On which designs do message passing and TAP do what theory for independent entries says, also on your own?"

SIZES = {"quick": (500, 32, 16), "standard": (1000, 64, 64), "paper": (8000, 96, 256)}
"""p and instances of the designs drawn, instances of beta0 and noise on real ones."""

LAWS: dict[Law, str] = {"gaussian": "Gaussian", "rademacher": "Rademacher", "uniform": "uniform"}
PLACE = (1.0, 0.3)
"""(delta, sigma) of the designs drawn."""

SIGNAL = 4.0
"""delta/sigma^2 on real designs where no sigma is given."""

SHOWN = np.array([0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 25, 29])
NAMES = ("TAP", "MF", "Gibbs")
TICKS = np.arange(len(NAMES), dtype=float)
ERROR, STEP = r"$|m_t - \beta_0|^2/p$", "$t$"


@dataclass(frozen=True, kw_only=True)
class Designs(Script):
    """Options of this script."""

    data: Annotated[Path | None, arg(metavar="FILE.npz")] = None
    """An .npz file with a design X (n, p) and, if there is one, its response y (n,). Default: several designs."""

    sigma: Annotated[float | None, number("--sigma", float)] = None
    """Standard deviation of the noise, needed with a response. Default: (n/p)^{1/2}/2."""

    density: Annotated[float, number("--density", float)] = 2 / 3
    """Of the prior on -1, 0, 1 of weights density/2, 1 - density, density/2, for --data."""

    raw: bool = False
    """Take X and y of --data as they are, instead of centring both and scaling the columns of X to variance 1/p."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the data that the options name."""
        name = f"{PAPER}.designs"
        if self.data is None:
            given = [option for option, value in (("--sigma", self.sigma), ("--raw", self.raw or None)) if value]
            given += ["--density"] if self.density != 2 / 3 else []
            require(not given, f"{' and '.join(given)} must come with --data, got none")
            return (Figure(name, QUESTION, many_designs),)
        require(0 < self.density < 1, f"--density must lie in (0, 1), got {self.density}")
        matrix = load_matrix(self.data, raw=self.raw)
        known = matrix.y is None
        require(known or self.sigma is not None, f"--sigma must be given, as {str(self.data)!r} has a response y")
        setting = Given(matrix.X, noise(matrix, self.sigma), three_point(self.density), matrix.y)
        return (Figure(name, QUESTION, partial(own_design if known else own_response, setting, matrix)),)


def noise(matrix: Matrix, sigma: float | None = None) -> float:
    """sigma, by default of delta/sigma^2 = SIGNAL."""
    n, p = matrix.X.shape
    return (n / p / SIGNAL) ** 0.5 if sigma is None else sigma


# --- several designs --------------------------------------------------------------------------------------------------


@mpl.rc_context(SMALL)
def many_designs(session: Session) -> matplotlib.figure.Figure:
    """Errors of AMP on designs drawn and on real ones, and errors and reported variances of other methods on these."""
    p, seeds, instances = SIZES[session.preset]
    drawing, axes = canvas(1, 3, width=TEXT, height=3.4)
    drawn, real, methods = axes[0]
    drawn_designs(session, drawn, model(*PLACE, p), seeds)
    handles = [proxy(f"(a) {name}", color, "o") for name, color in zip(LAWS.values(), COLORS, strict=False)]
    handles += [
        proxy("(a) orthogonal, error", COLORS[3], "o"),
        proxy("(a) orthogonal, mean $V_t$", COLORS[3], "o", markerfacecolor="white"),
    ]
    for index, matrix in enumerate((bundled("breast cancer"), bundled("digits"))):
        for shuffled in (False, True):
            shown = permuted(matrix) if shuffled else matrix
            color, marker = COLORS[(4, 5)[index]], "os"[shuffled]
            setting = Given(shown.X, noise(shown))
            (results,) = session.measure(GIVEN, Design((setting,), instances))
            trajectory(real, setting, results, color, marker, 0.2 * (2 * index + shuffled - 1.5))
            compared(methods, results, color, marker, 0.2 * (2 * index + shuffled - 1.5))
            n, columns = shown.X.shape
            handles.append(proxy(f"(b), (c) {shown.name}, $n = {n}$, $p = {columns}$", color, marker))
    finish(real, methods)
    real.set(yscale="log", ylim=(0.1, 3))
    real.yaxis.set_minor_formatter(NullFormatter())
    letters(axes[0], ("AMP, designs drawn", "AMP, real designs", "marginals, real designs"))
    handles += [
        proxy("state evolution of independent entries", linestyle="-"),
        proxy("(c) TAP by descent, MF naive; filled: error, open: mean $V$", marker="o", markerfacecolor="white"),
    ]
    title = rf"U3; (a): {sizes(p=p)}, $\delta = {PLACE[0]:g}$, $\sigma = {PLACE[1]:g}$, {seeds} instances"
    title += (
        "\n(b), (c): columns of variance $1/p$, "
        + rf"$\sigma^2 = \delta/{SIGNAL:g}$, {instances} draws of $\beta_0$ and noise; "
    )
    title += "mean and 95% CI of all runs"
    shared_legend(drawing, handles, title, 2)
    return drawing


def drawn_designs(session: Session, panel: Axes, size: LinearModel, seeds: int) -> None:
    """Error of AMP on designs of independent entries, and on an orthogonal one, where theory does not hold."""
    settings = tuple(Trajectory(model(*PLACE, size.p, entries=law)) for law in LAWS)
    measured = session.measure(TRAJECTORY, Design(settings, seeds))
    (orthogonal,) = session.measure(ROTATED, Design((Rotated(size),), seeds))
    for i, (results, color) in enumerate(zip((*measured, orthogonal), COLORS, strict=False)):
        shift = SHOWN + 0.15 * (i - 1.5)
        points(panel, shift, results["mse"][:, SHOWN].astype(float), label=None, color=color)
    points(panel, SHOWN + 0.0, orthogonal["variance"][:, SHOWN], label=None, color=COLORS[3])
    hollow(panel)
    predicted = theory.state_evolution(theory.U3, *PLACE, 30).mse
    line(panel, np.arange(30.0), predicted, label=None)
    panel.set(xlabel=STEP, ylabel=ERROR, ylim=(0, None))


def trajectory(panel: Axes, setting: Given, results: Results, color: str, marker: str, shift: float) -> None:
    """Error of AMP at each step, and what it would be for independent entries."""
    points(panel, SHOWN + shift, results["amp_mse"][:, SHOWN], label=None, color=color, marker=marker)
    prior = theory.Discrete(tuple(setting.prior.values.tolist()), tuple(setting.prior.weights.tolist()))
    predicted = theory.state_evolution(prior, setting.delta, setting.sigma, setting.steps).mse
    line(panel, np.arange(float(setting.steps)), predicted, label=None)


def compared(panel: Axes, results: Results, color: str, marker: str, shift: float) -> None:
    """Error and reported variance of each method."""
    points(panel, TICKS + shift, results["mse"], label=None, color=color, marker=marker)
    points(panel, TICKS + shift, results["variance"], label=None, color=color, marker=marker)
    hollow(panel)


def finish(real: Axes, methods: Axes) -> None:
    """Labels."""
    real.set(xlabel=STEP, ylabel=ERROR)
    methods.set(ylabel="error, mean $V$", ylim=(0, None), xlim=(-0.5, len(NAMES) - 0.5))
    methods.set_xticks(TICKS, NAMES)


# --- a design of one's own --------------------------------------------------------------------------------------------


def header(setting: Given) -> str:
    """Sizes for the legend's title."""
    n, p = setting.X.shape
    w = float(setting.prior.weights[0])
    return f"{sizes(n=n, p=p)}, " + rf"$\sigma = {setting.sigma:.4g}$, prior $\pm 1$ of weight {w:.4g} each and 0; "


def own_design(setting: Given, matrix: Matrix, session: Session) -> matplotlib.figure.Figure:
    """Errors on the design, and on the same one with its columns permuted."""
    instances = SIZES[session.preset][2]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2)
    real, methods = axes[0]
    handles, failures = [], []
    for shuffled, color, marker in ((False, COLORS[0], "o"), (True, COLORS[1], "s")):
        shown = permuted(matrix) if shuffled else matrix
        used = Given(shown.X, setting.sigma, setting.prior) if shuffled else setting
        (results,) = session.measure(GIVEN, Design((used,), instances))
        trajectory(real, used, results, color, marker, 0.0)
        compared(methods, results, color, marker, 0.2 * (shuffled - 0.5))
        handles.append(proxy(shown.name, color, marker))
        failures.append(int((results["gradient"] > 1e-6).sum()))
    finish(real, methods)
    if max(np.nan_to_num(panel_line.get_ydata(), posinf=0).max() for panel_line in real.lines) > 1:
        real.set_yscale("log")
    letters(axes[0], ("AMP", "marginals"))
    handles += [
        proxy("state evolution of independent entries", linestyle="-"),
        proxy("(b) TAP by descent, MF naive; filled: error, open: mean $V$", marker="o", markerfacecolor="white"),
    ]
    title = f"{header(setting)}{instances} draws of " + r"$\beta_0$ and noise, mean and 95% CI" + "\n"
    title += f"descent stops short of a gradient of $10^{{-6}}$ in {failures[0]} and {failures[1]} of them"
    shared_legend(drawing, handles, title, 2)
    return drawing


def own_response(setting: Given, matrix: Matrix, session: Session) -> matplotlib.figure.Figure:
    """Steps of AMP on the data, and marginal means over those of Gibbs sampling."""
    (results,) = session.measure(GIVEN, Design((setting,)))
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2)
    steps, means = axes[0]
    change = results["amp_change"][0]
    steps.plot(np.arange(change.size), change, color=THEORY, marker="o")
    steps.set(xlabel=STEP, ylabel=r"$|m_{t+1} - m_t|/\sqrt{p}$", yscale="log")
    *marginals, sampled = results["mean"][0]
    means.plot([-1, 1], [-1, 1], color=THEORY)
    handles = []
    for name, mean, variance, color, marker in zip(
        NAMES, marginals, results["variance"][0], COLORS, "os", strict=False
    ):
        means.plot(sampled, mean, color=color, marker=marker, linestyle="none", alpha=0.7)
        handles.append(proxy(rf"{name}: mean $V$ = {variance:.4g}", color, marker))
    error = float(results["chains"][0]) ** 0.5
    means.set(xlabel="posterior mean, Gibbs", ylabel="marginal mean $m_j$", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    letters(axes[0], ("AMP", matrix.name))
    handles.append(proxy(rf"Gibbs: mean $V$ = {results['variance'][0][2]:.4g}, error of its means {error:.1g}"))
    handles.append(proxy("equal", linestyle="-"))
    title = f"{header(setting)}response given\ngradient of "
    title += rf"$F_{{\rm TAP}}$ {results['gradient'][0]:.1e} after {results['steps'][0]} steps of descent"
    shared_legend(drawing, handles, title, 2)
    return drawing


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Designs))
