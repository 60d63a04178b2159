"""Mean-field Langevin dynamics on a problem of one's own: data from a file, the neuron function from another."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import matplotlib.figure
import numpy as np
from jaxtyping import Float
from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.papers.mean_field_langevin.dynamics import PAPER
from theorysim.papers.mean_field_langevin.empirical import Reference, reference
from theorysim.papers.mean_field_langevin.figures_ensemble import powers
from theorysim.papers.mean_field_langevin.measurements import (
    POOLED,
    TRAINING,
    Training,
    limit_at_start,
    require_converged,
)
from theorysim.papers.mean_field_langevin.own import Own, own_problem
from theorysim.papers.mean_field_langevin.setting import Problem, circles
from theorysim.plots import COLORS, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, spread
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = (
    "Do the networks of your own problem have biases and variances of order 1/N, and the variance that theory predicts?"
)


class Size(NamedTuple):
    """N: widths. wide: N of the reference, and its networks. networks: of each seed."""

    N: tuple[int, ...]
    wide: tuple[int, int]
    networks: int
    seeds: int


SIZES = {
    "quick": Size((4, 8, 16, 32), (256, 8), 32, 8),
    "standard": Size((4, 8, 16, 32, 64, 128), (1024, 8), 64, 16),
    "paper": Size((4, 8, 16, 32, 64, 128, 256, 512, 1024), (8192, 16), 256, 16),
}
SHOWN = 4
"""Inputs in the figure."""
SHARE = 0.1
"""Default step size in units of the stability limit at the start."""
RELAXED = 4.0
"""Default number of steps: 2 lamp eta times it. The regulariser alone then leaves e^{-4} of where the neurons started."""


@dataclass(frozen=True, kw_only=True)
class Given(Script):
    """Options of this script."""

    data: Annotated[Path | None, arg(metavar="FILE.npz")] = None
    """An .npz file with inputs Z (n, q) and targets y (n,). Default: points on two circles."""

    neuron: Annotated[Path | None, arg(metavar="FILE.py")] = None
    """A Python file with h(x, z), a JAX function of a particle x (d,) and an input z (q,), DIMENSION, which is d, and, unless
    the loss is (u - y)^2/2, loss: a function loss(u, y), convex in u, or "logistic"."""

    lam: Annotated[float, number("--lam", float)] = 0.05
    """Temperature lambda."""

    lamp: Annotated[float, number("--lamp", float)] = 0.05
    """lambda' of the regulariser lambda' |x|^2."""

    eta: Annotated[float | None, number("--eta", float)] = None
    """Step size. Default: a tenth of the stability limit at the start."""

    steps: Annotated[int | None, number("--steps", int)] = None
    """Steps of noisy gradient descent. Default: 2/(lambda' eta), from 200 to 20000."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the problem that the options name."""
        files = {"--data": self.data, "--neuron": self.neuron}
        missing = [option for option, file in files.items() if file is None]
        require(len(missing) != 1, f"--data and --neuron must come together, got no {' '.join(missing)}")
        require(self.eta is None or 0 < self.eta < np.inf, f"--eta must be positive and finite, got {self.eta}")
        require(self.steps is None or self.steps >= 2, f"--steps must be at least 2, got {self.steps}")
        if self.data is None or self.neuron is None:
            problem, name = circles(self.lam, self.lamp), "circles"
        else:
            problem, name = own_problem(self.data, self.neuron, lam=self.lam, lamp=self.lamp), self.data.stem
        return (Figure(f"{PAPER}.own", QUESTION, partial(own, problem, self.eta, self.steps, name)),)


class Outcome(NamedTuple):
    """mean: E h_rho(z) of each seed, input and width, shape (S, n, widths). variance: N Var h_rho(z), after half of the
    steps and after all, shape (2, S, n, widths). theory: from the wide networks."""

    mean: Float[np.ndarray, "S n widths"]
    variance: Float[np.ndarray, "2 S n widths"]
    theory: Reference


def measure(problem: Problem | Own, eta: float, steps: int, limit: float, session: Session) -> Outcome:
    """Raises InputError where a network diverges, with its step, and unless eta is below the stability limit at the start."""
    size = SIZES[session.preset]
    train = lambda N, networks: Training(problem, N, eta, np.array([steps // 2, steps]), problem.Z, networks)
    means, variances = [], []
    for N in size.N:
        setting = train(N, size.networks)
        (results,) = session.measure(TRAINING, Design((setting,), size.seeds))
        require_converged(setting, results)
        stable = f"--eta must be below the stability limit, {limit:.4g} at the start, got {eta:.4g}"
        require(eta < limit, f"{stable}: nothing diverged in {steps} steps, but deviations grow")
        h = results["h"].astype(float)
        means.append(h[:, 1].mean(axis=1))
        variances.append(N * np.moveaxis(h.var(axis=2, ddof=1), 1, 0))
    wide = train(*size.wide)
    (results,) = session.measure(POOLED, Design((wide,)))
    require_converged(wide, results)
    return Outcome(np.stack(means, axis=-1), np.stack(variances, axis=-1), reference(wide, results))


def table(widths: Sequence[int], chosen: Sequence[int], found: Outcome) -> str:
    """N Var h_rho averaged over all inputs, and the mean output at the chosen ones, for each width, with their predictions."""
    halfway, variance = found.variance.mean(axis=2)
    theory = found.theory
    series = [(variance, theory.variance.mean(), theory.iid_variance.mean()), (halfway,)]
    series += [(found.mean[:, j], theory.value[j]) for j in chosen]
    columns = [["N", *map(str, widths), "wide, predicted", "independent"]]
    heads = ["N Var h(z), all z", "after half the steps", *(f"E h(z_{j + 1})" for j in chosen)]
    for head, (samples, *last) in zip(heads, series, strict=True):
        centre, distances = spread(samples)
        cells = [f"{c:.4g} +- {d:.1g}" for c, d in zip(centre, distances[0], strict=True)]
        columns.append([head, *cells, *(f"{value:.4g}" for value in last), *[""] * (2 - len(last))])
    return "\n".join("  ".join(f"{cell:>20s}" for cell in row).rstrip() for row in zip(*columns, strict=True))


def own(
    problem: Problem | Own, eta: float | None, steps: int | None, name: str, session: Session
) -> matplotlib.figure.Figure:
    """Mean output and N times its variance over N, at a few inputs and for all; prints both."""
    size, limit = SIZES[session.preset], limit_at_start(problem)
    eta = SHARE * limit if eta is None else eta
    steps = min(20_000, max(200, round(RELAXED / (2 * problem.lamp * eta)))) if steps is None else steps
    found = measure(problem, eta, steps, limit, session)
    means, variances, theory = found.mean, found.variance[1], found.theory
    chosen = np.unique(np.linspace(0, len(problem.y) - 1, SHOWN).round().astype(int))
    print(f"{name}: n = {len(problem.y)}, d = {problem.d}, lambda = {problem.lam:g}, lambda' = {problem.lamp:g}")
    print(
        f"eta = {eta:.4g}, stability limit {limit:.4g} at the start; {steps} steps; mean and 95% CI of {size.seeds} seeds"
    )
    print(table(size.N, chosen.tolist(), found))

    drawing, axes = canvas(1, 3, width=TEXT, height=3.1)
    bias, variance, average = axes[0]
    N, handles = np.array(size.N, float), []
    for place, (j, color, marker) in enumerate(zip(chosen, COLORS, "os^D", strict=False)):
        nudge = 1.04 ** (place - (len(chosen) - 1) / 2)
        points(bias, N * nudge, means[:, j] - theory.value[j], label=None, color=color, marker=marker)
        points(variance, N * nudge, variances[:, j], label=None, color=color, marker=marker)
        line(variance, N, np.full(N.size, theory.variance[j]), label=None, color=color)
        handles.append(proxy(f"$z_{{{j + 1}}}$", color, marker))
    points(average, N, variances.mean(axis=1), label=None, color=THEORY)
    line(average, N, np.full(N.size, theory.variance.mean()), label=None)
    line(average, N, np.full(N.size, theory.iid_variance.mean()), label=None, color="#888888", bound=True)
    bias.axhline(0, color=THEORY)
    bias.set_ylabel(r"$E\,h_\rho(z) - h_{\rm wide}(z)$")
    variance.set(ylabel=r"$N\,{\rm Var}\,h_\rho(z)$", ylim=(0, None))
    average.set(ylabel=r"$N\,{\rm Var}\,h_\rho(z)$, mean over $z$", ylim=(0, None))
    for panel in axes[0]:
        panel.set_xlabel("$N$")
        powers("x", panel, size.N)
    letters(axes[0], ("mean, less the wide networks'", "variance", "variance, all inputs"))
    handles += [
        proxy("(b), (c) $v$ from wide networks' neurons", linestyle="-"),
        proxy("(c) independent neurons", "#888888", linestyle="--"),
    ]
    title = f"{name}: $n = {len(problem.y)}$, $d = {problem.d}$, "
    title += rf"$\lambda = {problem.lam:g}$, $\lambda' = {problem.lamp:g}$, $\eta = {eta:.4g}$, {steps} steps; stability limit "
    title += f"{limit:.4g} at the start\n"
    title += f"{size.seeds} seeds of {size.networks} networks, mean and 95% CI; "
    title += f"wide: {size.wide[1]} networks of $N = {size.wide[0]}$"
    shared_legend(drawing, handles, title, 3)
    return drawing


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Given))
