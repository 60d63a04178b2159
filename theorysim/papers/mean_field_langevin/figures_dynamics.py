"""Figures in time: propagation of chaos step by step, the objective of Gaussian networks, the decay of the mean-field flow."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from theorysim.papers.mean_field_langevin.dynamics import (
    CERTIFIED,
    FLOW,
    GAUSSIAN_NETWORKS,
    MEAN,
    NETWORKS,
    PAPER,
    VARIANCE,
    Flow,
    GaussianNetworks,
    Networks,
    model_of,
    optimum_of,
)
from theorysim.papers.mean_field_langevin.setting import gauss, rbf, tanh1d
from theorysim.papers.mean_field_langevin.theory import dynamics, mean_field
from theorysim.papers.mean_field_langevin.theory import gauss as linear
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
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session

IID = ("#888888", "--")

# --- figure 4: chaos at every step ------------------------------------------------------------------------------------


class Paths(NamedTuple):
    """steps: the last one. networks: of each seed. nodes: of the chain's grid on [-5, 5]."""

    steps: int
    networks: int
    seeds: int
    nodes: int


PATHS = {
    "quick": Paths(160, 2000, 16, 213),
    "standard": Paths(300, 4000, 32, 301),
    "paper": Paths(300, 20_000, 64, 481),
}
SHOWN = np.array([0, 1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 300])
WIDTH, ETA = 16, 0.2
INPUTS = np.array([0.7, 2.0])


class Chain(NamedTuple):
    """Of the chain with fluctuations after 0, 1, ... steps, shapes (steps + 1, T): h_k, b_k, v_k, and v_k of i.i.d. neurons."""

    value: Float[np.ndarray, "K T"]
    bias: Float[np.ndarray, "K T"]
    variance: Float[np.ndarray, "K T"]
    iid: Float[np.ndarray, "K T"]


@lru_cache
def chain(steps: int, nodes: int) -> Chain:
    """Of tanh1d from N(1, 1/4)."""
    model, grid, z = model_of(tanh1d()), mean_field.ball_grid(5.0, nodes), INPUTS[:, None]
    made, features = dynamics.make_chain(model, grid, ETA), model.features(grid.nodes, z)
    state, rows = dynamics.chain_start(mean_field.normal_density(grid, 1.0, 0.25)), []
    for _ in range(steps + 1):
        found = dynamics.chain_outputs(made, state, z)
        rows.append((found.value, found.bias, found.variance, state.mass @ features**2 - found.value**2))
        state = dynamics.chain_step(made, state)
    return Chain(*map(np.stack, zip(*rows, strict=True)))


@mpl.rc_context(SMALL)
def time_uniform(session: Session) -> matplotlib.figure.Figure:
    """Mean output, N times its bias, and N times its variance over the steps, against the chain with fluctuations."""
    size = PATHS[session.preset]
    times = SHOWN[size.steps >= SHOWN]
    setting = Networks(tanh1d(), WIDTH, ETA, times, INPUTS, networks=size.networks)
    (results,) = session.measure(NETWORKS, Design((setting,), size.seeds))
    theory = chain(size.steps, size.nodes)
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    k = np.arange(size.steps + 1.0)
    measured = (
        results["mean"],
        setting.N * (results["mean"] - theory.value[times]),
        results["variance"],
    )
    lines = (theory.value + theory.bias / setting.N, theory.bias, theory.variance)
    handles = []
    for j, (z, color, marker) in enumerate(zip(INPUTS, COLORS, "os", strict=False)):
        for panel, samples, values in zip(axes[0], measured, lines, strict=True):
            line(panel, k, values[:, j], label=None, color=color)
            points(panel, times.astype(float), samples[..., j].astype(float), label=None, color=color, marker=marker)
        axes[0, 2].plot(k, theory.iid[:, j], color=color, linestyle="--", linewidth=0.8)
        handles.append(proxy(f"$z = {z:g}$", color, marker))
    for panel in axes[0]:
        panel.set_xscale("symlog", linthresh=1, linscale=0.4)
        panel.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        panel.set(xlabel="$k$")
    axes[0, 0].set_ylabel(r"$E\,h_{\rho_k}(z)$")
    axes[0, 1].set_ylabel(r"$N\,(E\,h_{\rho_k}(z) - h_{\mu_k}(z))$")
    axes[0, 2].set_ylabel(r"$N\,{\rm Var}\,h_{\rho_k}(z)$")
    letters(axes[0], ("mean", "bias", "variance"))
    handles += [
        proxy(r"(a) $h_{\mu_k} + b_k/N$, (b) $b_k$, (c) $v_k$", linestyle="-"),
        proxy("(c) independent neurons", linestyle="--", linewidth=0.8),
    ]
    title = rf"tanh1d, $\mu_0 = N(1, 1/4)$, $\eta = {ETA:g}$; {sizes(N=WIDTH)}, "
    title += f"{size.seeds} seeds of {size.networks} networks, mean and 95% CI"
    shared_legend(drawing, handles, title, 4)
    return drawing


# --- figure 5: the objective of Gaussian networks ---------------------------------------------------------------------


class Objectives(NamedTuple):
    """N: widths. networks: of each seed."""

    N: tuple[int, ...]
    networks: int
    seeds: int


OBJECTIVES = {
    "quick": Objectives((4, 16, 64), 500, 8),
    "standard": Objectives((4, 16, 64), 1000, 12),
    "paper": Objectives((4, 16, 64), 20_000, 32),
}
ETAS = (0.5, 0.2, 0.05)
TIMES = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 10.0, 13.0, 16.0])
"""t = eta k of the points."""
HORIZON = 20.0


def networks_at(N: int, eta: float, place: int, networks: int) -> GaussianNetworks:
    """At the steps next to `TIMES`, a little later for each next step size, so that points can be told apart."""
    steps = np.rint((TIMES + 0.15 * place * (TIMES > 0)) / eta).astype(int)
    return GaussianNetworks(gauss(), N, eta, MEAN, VARIANCE, steps, networks=networks)


def sampled_gap(model: linear.GaussianModel, N: int, results: Results) -> Float[np.ndarray, "S K"]:
    """gap_k of the Gaussian laws with the measured moments, for each seed."""
    rows = zip(*(results[name].astype(float) for name in ("mean", "mode", "orthogonal")), strict=True)
    return np.stack([linear.gaussian_gap(model, N, linear.Moments(*row)) for row in rows])


@mpl.rc_context(SMALL)
def objectives(session: Session) -> matplotlib.figure.Figure:
    """gap_k over time for three step sizes and widths, its floor, and the bound in discrete time."""
    size, model = OBJECTIVES[session.preset], linear.gaussian_model(model_of(gauss()))
    drawing, axes = canvas(1, len(size.N), width=TEXT, height=3.1, sharey=True)
    for panel, N in zip(axes[0], size.N, strict=True):
        panel.axhline(model.kappa / N, color=THEORY, linestyle=":", linewidth=0.9)
        settings = tuple(networks_at(N, eta, i, size.networks) for i, eta in enumerate(ETAS))
        measured = session.measure(GAUSSIAN_NETWORKS, Design(settings, size.seeds))
        for setting, results, color, marker in zip(settings, measured, COLORS, "os^", strict=False):
            eta = setting.eta
            steps = np.arange(round(HORIZON / eta) + 1)
            moments = linear.chain_moments(model, eta, steps, MEAN, VARIANCE)
            gap = linear.gaussian_gap(model, N, moments)
            drift = float(linear.drift_bound(model, N, moments).max())
            bound = linear.chain_bound(model, eta, steps, float(gap[0]) - model.kappa / N, drift) + model.kappa / N
            line(panel, eta * steps, gap, label=None, color=color)
            panel.plot(eta * steps, bound, color=color, linestyle="--", linewidth=0.8)
            samples = sampled_gap(model, N, results)
            points(panel, eta * setting.times, samples, label=None, color=color, marker=marker)
        panel.set(xlabel=r"$t = \eta k$", yscale="log")
    axes[0, 0].set_ylabel(r"gap$_k$ $= L^N/N - L(\mu^*)$")
    letters(axes[0], [f"$N = {N}$" for N in size.N])
    handles = [proxy(rf"$\eta = {eta:g}$", c, m) for eta, c, m in zip(ETAS, COLORS, "os^", strict=False)]
    handles += [
        proxy("closed form", linestyle="-"),
        proxy("bound in discrete time", linestyle="--", linewidth=0.8),
        proxy(r"floor $\Delta_N = \kappa/N$", linestyle=":"),
    ]
    title = (
        r"gauss: $d = 3$, $n = 5$, neurons from $N((1, 1, -1), 2 I)$; points: noisy GD, gap at the sampled moments, "
    )
    title += f"{size.seeds} seeds of {size.networks} networks, mean and 95% CI"
    shared_legend(drawing, handles, title.replace("; points", "\npoints"), 6)
    return drawing


# --- figure 7: decay of the mean-field flow ---------------------------------------------------------------------------

FLOWS = {"quick": (0.02, 301), "standard": (0.01, 601), "paper": (0.005, 1201)}
"""Time step, nodes."""
STARTS = ((1.5, 0.09), (-1.0, 1.0), (0.0, 0.01))
"""Mean and variance of mu_0."""
SLOW = ((tanh1d(), 6.0), (rbf(0.1), 12.0))
"""Problems without a certified rate, and the extent of their grids."""


def decay(session: Session) -> matplotlib.figure.Figure:
    """L(mu_t) - L(mu*) over time, with the certified bound where there is one, and the sharp rate."""
    dt, nodes = FLOWS[session.preset]
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    early, late = np.linspace(0.25, 6, 24), np.linspace(2.0, 54.0, 27)
    certified = tuple(Flow(CERTIFIED, m, v, early, dt, nodes=nodes) for m, v in STARTS)
    model = model_of(CERTIFIED)
    alpha = mean_field.tanh_lsi(model)
    for results, color, marker in zip(session.measure(FLOW, Design(certified)), COLORS, "os^", strict=False):
        initial = results["initial"][0]
        axes[0, 0].plot(early, results["excess"][0] / initial, color=color, marker=marker, linestyle="none")
    bound = mean_field.exponential_bound(model, alpha, early, 1.0)
    line(axes[0, 0], early, bound, label=None, bound=True)
    flows = tuple(Flow(problem, 1.0, 0.25, late, dt, extent, nodes) for problem, extent in SLOW)
    for panel, setting, results in zip(axes[0, 1:], flows, session.measure(FLOW, Design(flows)), strict=True):
        excess, initial = results["excess"][0], results["initial"][0]
        panel.plot(late, excess / initial, color=COLORS[0], marker="o", linestyle="none")
        slopes(panel, late, excess / initial, dynamics.relaxation(optimum_of(setting.problem)))
    for panel in axes[0]:
        panel.set(xlabel="$t$", yscale="log")
    axes[0, 0].set_ylabel(r"$(L(\mu_t) - L(\mu^*))/(L(\mu_0) - L(\mu^*))$")
    letters(axes[0], ("convex enough for a bound", "tanh1d", r"rbf, $\lambda = 0.1$"))
    handles = [
        proxy(rf"(a) $\mu_0 = N({m:g}, {v:g})$", c, mk) for (m, v), c, mk in zip(STARTS, COLORS, "os^", strict=False)
    ]
    handles += [
        proxy(r"(b), (c) $\mu_0 = N(1, 1/4)$", COLORS[0], "o"),
        proxy(r"(a) bound $e^{-2\alpha\lambda t}$", linestyle="--"),
        proxy(r"rate 2 gap$_{\rm MF}$", linestyle="-"),
        proxy(r"rate 2 gap$_0$, no interaction", "#888888", linestyle=":"),
    ]
    title = rf"Fokker-Planck flow, {nodes} nodes, time step {dt:g}; (a): tanh, $z = (0.5, 0.8)$, $\lambda = 0.1$, "
    shared_legend(drawing, handles, title + rf"$\lambda' = 0.4$, $\alpha\lambda = {alpha * model.lam:.4f}$", 4)
    return drawing


def slopes(
    panel: Axes, t: Float[np.ndarray, " K"], values: Float[np.ndarray, " K"], rates: dynamics.Relaxation
) -> None:
    """Exponentials of both rates through the point at two thirds of the time, above rounding."""
    middle = int(np.flatnonzero(values > 1e-9)[-1] * 2 // 3)
    limits = values.min(), values.max()
    for rate, color, style in ((rates.mean_field[0], THEORY, "-"), (rates.frozen[0], "#888888", ":")):
        panel.plot(t, values[middle] * np.exp(-2 * rate * (t - t[middle])), color=color, linestyle=style)
    panel.set_ylim(limits[0] / 3, limits[1] * 3)


FIGURE_4 = Figure(
    f"{PAPER}.figure-4",
    "Do bias and fluctuations of N neurons stay of order 1/N at all times, with which constants?",
    time_uniform,
)
FIGURE_5 = Figure(
    f"{PAPER}.figure-5",
    "How does the objective of N neurons fall to its floor, and what does the step size add?",
    objectives,
)
FIGURE_7 = Figure(f"{PAPER}.figure-7", "At which rate does the mean-field flow approach the optimum?", decay)
