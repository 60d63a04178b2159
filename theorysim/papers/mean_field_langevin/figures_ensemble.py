"""Figures on merged networks: the error of an ensemble over its size and the networks' width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import matplotlib.figure
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from theorysim.papers.mean_field_langevin.dynamics import PAPER, model_of, optimum_of
from theorysim.papers.mean_field_langevin.measurements import TRAINING, Training, require_converged
from theorysim.papers.mean_field_langevin.setting import circles, tanhlog
from theorysim.papers.mean_field_langevin.theory import finite_n, mean_field
from theorysim.plots import TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, size_colors
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session


def powers(axis: str, panel: Axes, values: Sequence[float] | Shaped[np.ndarray, " values"]) -> None:
    """A logarithmic axis with ticks at the values."""
    getattr(panel, f"set_{axis}scale")("log")
    getattr(panel, f"set_{axis}ticks")(list(values), [f"{v:g}" for v in values])
    getattr(panel, f"{axis}axis").set_minor_formatter(NullFormatter())
    getattr(panel, f"{axis}axis").minorticks_off()


def edges(values: tuple[int, ...]) -> Float[np.ndarray, " edges"]:
    """Of cells around powers of two."""
    return np.append(values, 2 * values[-1]) / 2**0.5


def merged(h: Float[np.ndarray, "S R T"], M: int) -> Float[np.ndarray, "S G T"]:
    """Outputs of the R/M networks that result from merging each M successive ones: their averages."""
    S, R, T = h.shape
    return h.reshape(S, R // M, M, T).mean(axis=2)


# --- figure 1: merged networks on two circles -------------------------------------------------------------------------


class Map(NamedTuple):
    """N: widths. M: sizes of ensembles. networks: of each seed. side: inputs on each side of the square. nodes: on an axis."""

    N: tuple[int, ...]
    M: tuple[int, ...]
    networks: int
    seeds: int
    side: int
    steps: int
    nodes: int


MAPS = {
    "quick": Map((4, 8, 16, 32), (1, 2, 4, 8, 16), 16, 8, 21, 2000, 61),
    "standard": Map((4, 8, 16, 32, 64), (1, 2, 4, 8, 16, 32), 32, 16, 41, 2000, 61),
    "paper": Map((4, 8, 16, 32, 64, 128, 256, 512, 1024), (1, 2, 4, 8, 16, 32, 64), 256, 16, 41, 20_000, 81),
}
STEP = 0.05
"""eta."""
SIDE = 3.0
"""Inputs lie in [-SIDE, SIDE]^2."""


class Errors(NamedTuple):
    """First-order law of one network's output at inputs: h*, v, the variance of independent neurons, b and beta, shapes (T,)."""

    value: Float[np.ndarray, " T"]
    variance: Float[np.ndarray, " T"]
    iid: Float[np.ndarray, " T"]
    bias: Float[np.ndarray, " T"]
    step: Float[np.ndarray, " T"]

    def rms(self, N: float, M: float) -> float:
        """sqrt(mean over z of v/(MN) + (b/N + eta beta)^2)."""
        bias = self.bias / N + STEP * self.step
        return float(np.mean(mean_field.ensemble_error(bias, self.variance / N, M))) ** 0.5


def square(side: int) -> Float[np.ndarray, "T 2"]:
    """A grid of side^2 inputs."""
    axis = np.linspace(-SIDE, SIDE, side)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@lru_cache
def predicted(side: int, nodes: int) -> Errors:
    """On the circles."""
    z = square(side)
    best = mean_field.mf_optimum(model_of(circles()), mean_field.ball_grid(5.0, nodes, 3))
    found = mean_field.predict(best, z)
    return Errors(found.value, found.variance, found.iid_variance, found.bias, mean_field.step_size_bias(best, z))


def merged_networks(session: Session) -> matplotlib.figure.Figure:
    """log10 of the largest error of merged networks over M and N, and the root mean square error against its prediction."""
    size = MAPS[session.preset]
    theory = predicted(size.side, size.nodes)
    settings = [Training(circles(), N, STEP, np.array([size.steps]), square(size.side), size.networks) for N in size.N]
    largest = np.empty((len(size.M), len(size.N)))
    typical = np.empty((len(size.M), len(size.N), size.seeds))
    for j, setting in enumerate(settings):
        (results,) = session.measure(TRAINING, Design((setting,), size.seeds))
        require_converged(setting, results)
        for i, M in enumerate(size.M):
            errors = merged(results["h"][:, 0], M) - theory.value
            largest[i, j] = np.log10(np.abs(errors).max(axis=2)).mean()
            typical[i, j] = np.sqrt(np.mean(errors**2, axis=(1, 2)))

    drawing, axes = canvas(1, 2, width=TEXT, height=3.3)
    heat, rate = axes[0]
    image = heat.pcolormesh(edges(size.N), edges(size.M), largest, cmap="viridis", zorder=0)
    drawing.colorbar(image, ax=heat, pad=0.02).set_label(r"$\log_{10} \sup_z |h_{\rm merged}(z) - h^*(z)|$")
    dense = [np.geomspace(edges(values)[0], edges(values)[-1], 40) for values in (size.N, size.M)]
    rms = np.array([[theory.rms(N, M) for N in dense[0]] for M in dense[1]])
    levels = np.geomspace(typical.min(), typical.max(), 6)[1:-1]
    contours = heat.contour(*dense, rms, levels=levels, colors="white", linewidths=0.9)
    heat.clabel(contours, fmt="%.2g", fontsize=6)
    heat.set(xlabel="$N$", ylabel="$M$")
    powers("x", heat, size.N)
    powers("y", heat, size.M)
    heat.set(xlim=dense[0][[0, -1]], ylim=dense[1][[0, -1]])
    heat.grid(visible=False)

    shown = size.M[::2]
    handles = []
    for M, color in zip(shown, size_colors(len(shown)), strict=True):
        line(rate, dense[0], np.array([theory.rms(N, M) for N in dense[0]]), label=None, color=color)
        points(rate, np.array(size.N, float), typical[size.M.index(M)].T, label=None, color=color)
        handles.append(proxy(f"$M = {M}$", color, "o"))
    independent = theory._replace(variance=theory.iid)
    line(rate, dense[0], np.array([independent.rms(N, 1) for N in dense[0]]), label=None, color="#888888", bound=True)
    powers("x", rate, size.N)
    rate.set(xlabel="$N$", ylabel=r"rms of $h_{\rm merged} - h^*$ over $z$", yscale="log")
    letters(axes[0], ("largest error; contours: predicted rms", "rms error"))
    handles += [
        proxy(r"$(v/(MN) + (b/N + \eta\beta)^2)^{1/2}$, mean over $z$", linestyle="-"),
        proxy("independent neurons, $M = 1$", "#888888", linestyle="--"),
    ]
    title = rf"circles: $d = 3$, $n = 40$; noisy GD, $\eta = {STEP:g}$, {size.steps} steps; "
    title += f"{size.seeds} seeds of {size.networks} networks, mean and 95% CI\n"
    title += rf"{size.side} x {size.side} inputs $z \in [-3, 3]^2$; $h^*$ by quadrature"
    shared_legend(drawing, handles, title, 3)
    return drawing


# --- figure 6: what merging is worth ----------------------------------------------------------------------------------


class Merging(NamedTuple):
    """N: widths. M: sizes of ensembles. networks: of each seed. snapshots: of each run."""

    N: tuple[int, ...]
    M: tuple[int, ...]
    networks: int
    seeds: int
    snapshots: int


MERGING = {
    "quick": Merging((1, 2, 4, 8), (1, 4, 16, 64, 256), 256, 12, 12),
    "standard": Merging((1, 2, 4, 8), (1, 2, 4, 8, 16, 32, 64, 128, 256), 512, 24, 24),
    "paper": Merging((1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), 16_384, 32, 24),
}
Z = 3.0
"""Test input."""
BURN, SPACING = 800, 40
"""Steps before the first snapshot, and between snapshots."""


def merged_error(e: Float[np.ndarray, "S K R"], M: int) -> Float[np.ndarray, " S"]:
    """Mean of the squared average of e over all M of the R networks and over the K snapshots, for each of S seeds."""
    R = e.shape[2]
    square = (e**2).sum(axis=2)
    product = (e.sum(axis=2) ** 2 - square) / (R * (R - 1))
    return np.mean(square / R / M + (1 - 1 / M) * product, axis=1)


def tradeoff(session: Session) -> matplotlib.figure.Figure:
    """Mean squared error of M merged networks of N neurons, its two terms, and where they are equal."""
    size = MERGING[session.preset]
    times = BURN + SPACING * np.arange(size.snapshots)
    limit = float(mean_field.predict(optimum_of(tanhlog()), np.array([[Z]])).value[0])
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2)
    by_M, by_budget = axes[0]
    M, dense = np.array(size.M, float), np.geomspace(1, size.M[-1], 100)
    handles = []
    for N, color in zip(size.N, size_colors(len(size.N)), strict=True):
        setting = Training(tanhlog(), N, STEP, times, np.array([[Z]]), size.networks)
        (results,) = session.measure(TRAINING, Design((setting,), size.seeds))
        require_converged(setting, results)
        errors = np.stack([merged_error(results["h"][..., 0] - limit, m) for m in size.M], axis=1)
        bias, variance = of_width(N)
        for panel, scale in ((by_M, 1), (by_budget, N)):
            line(panel, scale * dense, mean_field.ensemble_error(bias, variance, dense), label=None, color=color)
            points(panel, scale * M, errors, label=None, color=color)
        by_M.axvline(variance / bias**2, color=color, linestyle=":", linewidth=0.9)
        handles.append(proxy(f"$N = {N}$", color, "o"))
    best = mean_field.predict(optimum_of(tanhlog()), np.array([[Z]]))
    budget = np.geomspace(1, size.N[-1] * size.M[-1], 50)
    line(by_budget, budget, best.variance[0] / budget, label=None, color="#888888", bound=True)
    by_M.set(xscale="log", yscale="log", xlabel="$M$", ylabel=r"$E\,(h_{\rm merged}(z) - h^*(z))^2$")
    by_budget.set(xscale="log", yscale="log", xlabel="neurons in all, $MN$")
    by_budget.set_ylim(by_M.get_ylim())
    letters(axes[0], ("size of the ensemble", "budget"))
    handles += [
        proxy(r"bias$_N^2$ + Var$_N/M$", linestyle="-"),
        proxy(r"(a) $M^* = $ Var$_N$/bias$_N^2$", THEORY, linestyle=":"),
        proxy("(b) $v/(MN)$, no bias", "#888888", linestyle="--"),
    ]
    title = rf"tanhlog, $z = {Z:g}$; noisy GD, $\eta = {STEP:g}$; {size.seeds} seeds of {size.networks} networks, "
    title += f"{size.snapshots} snapshots, mean and 95% CI\n"
    title += r"lines: exact $P^*$ for $N = 1, 2$, $b/N$ and $v/N$ beyond, plus $\eta\beta$ in the bias"
    shared_legend(drawing, handles, title, 4)
    return drawing


@lru_cache
def of_width(N: int) -> tuple[float, float]:
    """Bias with that of the step size, and variance, of a network of N neurons."""
    z = np.array([[Z]])
    best = optimum_of(tanhlog())
    if N <= 2:
        law = finite_n.direct_law(mean_field.mf_optimum(model_of(tanhlog()), mean_field.ball_grid(6.0, 401)), N, z)
        bias, variance = law.bias, law.variance
    else:
        found = mean_field.predict(best, z)
        bias, variance = found.bias / N, found.variance / N
    return float(bias[0] + STEP * mean_field.step_size_bias(best, z)[0]), float(variance[0])


FIGURE_1 = Figure(
    f"{PAPER}.figure-1",
    "How far are M merged networks of N neurons from the mean-field optimum, and is the error as predicted?",
    merged_networks,
)
FIGURE_6 = Figure(
    f"{PAPER}.figure-6", "Up to how many networks does merging pay, and what is the best width for a budget?", tradeoff
)
