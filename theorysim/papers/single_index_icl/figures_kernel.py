"""Figure on kernel ridge regression: it learns one degree after another, at n = d, d^2, ... examples."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float

from theorysim.errors import require
from theorysim.papers.single_index_icl.figures_pretraining import MARKERS
from theorysim.papers.single_index_icl.own import describe, report
from theorysim.papers.single_index_icl.regression import MIXTURE, PAPER, REGRESSION, Regression, link_of
from theorysim.papers.single_index_icl.setting import Link, Tasks
from theorysim.papers.single_index_icl.theory import kernel_regression
from theorysim.plots import (
    COLORS,
    SMALL,
    TEXT,
    Figure,
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
HIGHEST_SIMULATED = 8
"""Degree of a link up to which risks are exact in the direction at little cost."""


class Size(NamedTuple):
    """d: of the simulation. formula: of the formula alone. most: n, each four times the one before. draws: of the inputs."""

    d: tuple[int, ...]
    formula: tuple[int, ...]
    most: int
    draws: int


SIZES = {
    "quick": Size((16, 32), (128, 512), 1024, 8),
    "standard": Size((16, 32), (64, 128, 256, 512), 4096, 16),
    "paper": Size((16, 32, 64), (128, 256, 512), 16_384, 16),
}


def samples_of(most: int) -> tuple[int, ...]:
    """4, 16, ..., up to the most."""
    return tuple(n for n in (4**k for k in range(1, 12)) if n <= most)


@mpl.rc_context(SMALL)
def staircase(
    session: Session,
    link: Link = MIXTURE,
    size: Size | None = None,
    tau: float = TAU,
    ridge: float = RIDGE,
    *,
    tell: bool = False,
) -> matplotlib.figure.Figure:
    """Risk over log n/log d on the sphere, and its distance from the formula; `tell` prints the points."""
    size = SIZES[session.preset] if size is None else size
    law = link_of(link)
    require(min(size.d) >= 2, f"dimension d must be at least 2, got {min(size.d)}")
    if tell:
        print(report(link))
    dimensions = sorted({*size.d, *size.formula})
    drawing, axes = canvas(1, 2, width=TEXT, height=3.3)
    steps, ratios = axes[0]
    handles, markers = [], dict(zip(size.d, MARKERS, strict=False))
    top = min(law.degree, 4)
    exponent = np.linspace(0.3, top + 0.5, 90)
    for d, color in zip(dimensions, size_colors(len(dimensions)), strict=True):
        spectrum = kernel_regression.sphere_spectrum(link_of(link), d)
        predict = lambda n, spectrum=spectrum: kernel_regression.ridge_regression_risk(n, spectrum, ridge, tau)
        line(steps, exponent, predict(np.maximum(1.0, d**exponent)), label=None, color=color)
        handles.append(proxy(f"$d = {d}$", color, markers.get(d, ""), "-"))
        if d in markers and law.degree <= HIGHEST_SIMULATED:
            n = np.array([k for k in samples_of(size.most) if k <= d ** (top + 0.5)], float)
            settings = tuple(Regression(Tasks(d, d, link, tau, inputs="sphere"), int(k), ridge) for k in n)
            measured = session.measure(REGRESSION, Design(settings, size.draws))
            risk = np.stack([found["risk"] for found in measured], axis=1)
            points(steps, np.log(n) / np.log(d), risk, label=None, color=color, marker=markers[d])
            points(ratios, np.log(n) / np.log(d), risk / predict(n), label=None, color=color, marker=markers[d])
            if tell:
                tell_points(d, n, risk, predict(n))
    for degree in range(top + 1):
        level = kernel_regression.plateau_risk(law, degree)
        steps.plot([degree, degree + 1], [level, level], color=COLORS[1], linestyle=":", linewidth=1.4)
    ratios.axhline(1.0, color="#222222")
    for panel in axes[0]:
        panel.set_xlabel(r"$\log n / \log d$")
    steps.set(xlim=(exponent[0], exponent[-1]), ylabel=r"$E\,(\hat f - f)^2$", ylim=(0, None))
    ratios.set_ylabel("risk over the formula")
    letters(axes[0], ("one degree after another", "simulation over the formula"))
    handles.append(proxy(r"plateaus, $\sum_{k > \ell} c_k^2/k!$", COLORS[1], linestyle=":"))
    title = rf"{describe(link)}, $\tau = {tau:g}$; inputs on the sphere of radius $\sqrt{{d}}$, "
    title += rf"kernel $e^{{-|x - x'|^2/(2d)}}$, $\delta = {ridge:g}$" + "\n"
    title += (
        f"lines: deterministic equivalent; points: {size.draws} draws of the inputs, exact in the rest, mean and 95% CI"
    )
    shared_legend(drawing, handles, title, 3)
    return drawing


def tell_points(
    d: int, n: Float[np.ndarray, " K"], risk: Float[np.ndarray, "S K"], expected: Float[np.ndarray, " K"]
) -> None:
    """Print risks beside the formula."""
    print(f"d = {d}:")
    centre, distances = spread(risk)
    for count, found, width, value in zip(n, centre, distances[0], expected, strict=True):
        print(f"  n = {count:<7g} risk {found:.4g} +- {width:.2g}, formula {value:.4g}")


QUESTION = "Does kernel ridge regression on one prompt learn degree k only at n = d^k examples?"
FIGURE_6 = Figure(f"{PAPER}.figure-6", QUESTION, staircase)
