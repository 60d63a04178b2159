"""Merged networks on real data: two classes of handwritten digits, where the mean-field optimum cannot be computed."""

import sys
from typing import NamedTuple

import matplotlib.figure
import numpy as np

from theorysim.cli.script import main
from theorysim.papers.large_stepsize_gd.data import digits
from theorysim.papers.mean_field_langevin.dynamics import PAPER
from theorysim.papers.mean_field_langevin.empirical import reference
from theorysim.papers.mean_field_langevin.figures_ensemble import merged, powers
from theorysim.papers.mean_field_langevin.measurements import POOLED, TRAINING, Training, require_converged
from theorysim.papers.mean_field_langevin.setting import Problem
from theorysim.plots import COLORS, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, size_colors
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "Do networks trained on real data merge as theory says, with errors of order 1/N about a very wide network?"


class Size(NamedTuple):
    """N: widths. M: sizes of ensembles. networks: of each seed. wide: N of the reference, and its networks."""

    N: tuple[int, ...]
    M: tuple[int, ...]
    networks: int
    seeds: int
    wide: tuple[int, int]
    steps: int


SIZES = {
    "quick": Size((4, 8, 16, 32), (1, 4, 16), 16, 6, (256, 4), 1500),
    "standard": Size((4, 8, 16, 32, 64), (1, 4, 16, 64), 64, 4, (1024, 4), 3000),
    "paper": Size((4, 8, 16, 32, 64, 128, 256, 512), (1, 4, 16, 64), 256, 16, (16_384, 16), 10_000),
}
TRAINED = 100
"""Samples to train on; the others are for testing."""
LAM = LAMP = 0.01
ETA = 0.1


def problem() -> tuple[Problem, np.ndarray, np.ndarray]:
    """Digits 3 and 8 with labels -1 and 1, test inputs and labels."""
    data = digits()
    order = np.random.default_rng(0).permutation(len(data.y))
    train, test = order[:TRAINED], order[TRAINED:]
    setting = Problem("tanh-with-bias", "squared", data.X[train], data.y[train], LAM, LAMP)
    return setting, data.X[test], data.y[test]


def wrong(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Percentage of test samples on the wrong side, over the last axis."""
    return 100 * np.mean(np.sign(outputs) != labels, axis=-1)


def on_digits(session: Session) -> matplotlib.figure.Figure:
    """Test error of merged networks, their distance from a wide network, and N times the variance of the output."""
    size, (given, inputs, labels) = SIZES[session.preset], problem()
    train = lambda N, networks: Training(given, N, ETA, np.array([size.steps]), inputs, networks)
    wide = train(*size.wide)
    (results,) = session.measure(POOLED, Design((wide,)))
    require_converged(wide, results)
    theory = reference(wide, results)
    v, iid = theory.variance.mean(), theory.iid_variance.mean()

    errors = {M: np.empty((2, size.seeds, len(size.N))) for M in size.M}
    variance = np.empty((size.seeds, len(size.N)))
    for j, N in enumerate(size.N):
        setting = train(N, size.networks)
        (results,) = session.measure(TRAINING, Design((setting,), size.seeds))
        require_converged(setting, results)
        h = results["h"][:, 0]
        variance[:, j] = N * h.var(axis=1, ddof=1).mean(axis=1)
        for M in size.M:
            outputs = merged(h, M)
            errors[M][0, :, j] = wrong(outputs, labels).mean(axis=1)
            errors[M][1, :, j] = np.mean((outputs - theory.value) ** 2, axis=(1, 2))

    drawing, axes = canvas(1, 3, width=TEXT, height=3.2)
    error, distance, scaled = axes[0]
    N = np.array(size.N, float)
    handles = []
    for M, color in zip(size.M, size_colors(len(size.M)), strict=True):
        points(error, N, errors[M][0], label=None, color=color)
        points(distance, N, errors[M][1], label=None, color=color)
        line(distance, N, v / (M * N) + v / (size.wide[0] * size.wide[1]), label=None, color=color)
        handles.append(proxy(f"$M = {M}$", color, "o"))
    error.axhline(float(wrong(theory.value, labels)), color="#888888", linestyle=":")
    points(scaled, N, variance, label=None, color=COLORS[1], marker="s")
    line(scaled, N, np.full(N.size, v), label=None)
    line(scaled, N, np.full(N.size, iid), label=None, color="#888888", bound=True)
    error.set(ylabel="test error, %", ylim=(0, None))
    distance.set(ylabel=r"$(h_{\rm merged} - h_{\rm wide})^2$, mean over $z$", yscale="log")
    scaled.set(ylabel=r"$N\,{\rm Var}\,h_\rho(z)$, mean over $z$", ylim=(0, 1.1 * iid))
    for panel in axes[0]:
        panel.set_xlabel("$N$")
        powers("x", panel, size.N)
    letters(axes[0], ("classification", "distance from the wide one", "variance of one network"))
    handles += [
        proxy("(a) wide network", "#888888", linestyle=":"),
        proxy("(c) noisy GD", COLORS[1], "s"),
        proxy("(b) $v/(MN)$ + that of the wide one, (c) $v$", THEORY, linestyle="-"),
        proxy("(c) independent neurons", "#888888", linestyle="--"),
    ]
    title = rf"digits 3 and 8: $n = {TRAINED}$, $d = {given.d}$, {len(labels)} to test; $h = 3 \tanh(w \cdot z + b)$, squared "
    title += rf"loss, $\lambda = \lambda' = {LAM:g}$, $\eta = {ETA:g}$, {size.steps} steps" + "\n"
    title += f"{size.seeds} seeds of {size.networks} networks, mean and 95% CI; for want of $\\mu^*$: reference and $v$ from "
    title += rf"{size.wide[1]} networks of $N = {size.wide[0]}$"
    shared_legend(drawing, handles, title, 3)
    return drawing


FIGURE = Figure(f"{PAPER}.digits", QUESTION, on_digits)

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=[FIGURE]))
