"""What the step size adds: to the outputs of infinitely many neurons and of finite networks, and to the objective."""

import sys
from functools import lru_cache

import matplotlib as mpl
import matplotlib.figure
import numpy as np

from theorysim.cli.script import main
from theorysim.papers.mean_field_langevin.dynamics import (
    GAUSSIAN_LAWS,
    MEAN,
    PAPER,
    STATIONARY_CHAIN,
    VARIANCE,
    GaussianLaws,
    StationaryChain,
    model_of,
    optimum_of,
)
from theorysim.papers.mean_field_langevin.measurements import TRAINING, Training, require_converged
from theorysim.papers.mean_field_langevin.setting import gauss, tanh1d
from theorysim.papers.mean_field_langevin.theory import gauss as linear
from theorysim.papers.mean_field_langevin.theory import mean_field
from theorysim.plots import COLORS, SMALL, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, sizes
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "By how much does the step size shift the outputs and the objective, and is it as predicted?"

SIZES = {"quick": (500, 16, 12), "standard": (1000, 32, 24), "paper": (8192, 32, 48)}
"""Networks of each seed, seeds, snapshots of each run."""
Z = np.array([0.7, 2.0, 3.0])
CHAINS = np.array([0.4, 0.2, 0.1, 0.05])
ETAS = np.array([0.4, 0.2, 0.1])
WIDTH, GAUSSIAN_WIDTHS = 8, (2, 8)
BURN, SPACING = 40.0, 4.0
"""Times t = eta k before the first snapshot and between snapshots."""


@lru_cache
def predicted() -> tuple[mean_field.Prediction, np.ndarray]:
    """First-order law and beta at the inputs, of tanh1d."""
    best = optimum_of(tanh1d())
    return mean_field.predict(best, Z[:, None]), mean_field.step_size_bias(best, Z[:, None])


@mpl.rc_context(SMALL)
def step_size(session: Session) -> matplotlib.figure.Figure:
    """(h_{mu_eta} - h*)/eta, the mean output of networks of N neurons, and the excess of the objective, over eta."""
    networks, seeds, snapshots = SIZES[session.preset]
    law, beta = predicted()
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    chain, finite, objective = axes[0]
    infinite = session.measure(STATIONARY_CHAIN, Design(tuple(StationaryChain(tanh1d(), float(e), Z) for e in CHAINS)))
    slopes = np.stack([results["slope"][0] for results in infinite])
    dense = np.linspace(0, 0.42, 2)
    means = []
    for eta in ETAS:
        times = np.rint((BURN + SPACING * np.arange(snapshots)) / eta).astype(int)
        setting = Training(tanh1d(), WIDTH, float(eta), times, Z[:, None], networks)
        (results,) = session.measure(TRAINING, Design((setting,), seeds))
        require_converged(setting, results)
        means.append(results["h"].mean(axis=(1, 2)) - law.value)
    handles = []
    for j, (z, color, marker) in enumerate(zip(Z, COLORS, "os^", strict=False)):
        line(chain, dense, np.full(2, beta[j]), label=None, color=color)
        chain.plot(CHAINS, slopes[:, j], color=color, marker=marker, linestyle="none")
        line(finite, dense, 1e3 * (law.bias[j] / WIDTH + dense * beta[j]), label=None, color=color)
        samples = 1e3 * np.stack([mean[:, j] for mean in means], axis=1)
        points(finite, ETAS + 0.006 * (j - 1), samples, label=None, color=color, marker=marker)
        handles.append(proxy(f"$z = {z:g}$", color, marker))
    model = linear.gaussian_model(model_of(gauss()))
    for N, color, marker in zip(GAUSSIAN_WIDTHS, COLORS[3:], "sD", strict=False):
        settings = tuple(GaussianLaws(gauss(), N, float(eta), MEAN, VARIANCE) for eta in CHAINS)
        found = session.measure(GAUSSIAN_LAWS, Design(settings))
        excess = np.array([results["gap"][0, -1] - results["floor"][0] for results in found])
        line(objective, CHAINS, float(linear.excess_limit(model, N)) * CHAINS**2, label=None, color=color)
        objective.plot(CHAINS, excess, color=color, marker=marker, linestyle="none")
        handles.append(proxy(f"(c) $N = {N}$", color, marker))
    chain.set(xlabel=r"$\eta$", ylabel=r"$(h_{\mu_\eta}(z) - h^*(z))/\eta$", xlim=(0, None))
    finite.set(xlabel=r"$\eta$", ylabel=r"$10^3\,(E\,h_\rho(z) - h^*(z))$", xlim=(0, None))
    objective.set(xlabel=r"$\eta$", ylabel=r"gap $- \,\Delta_N$", xscale="log", yscale="log")
    objective.set_xticks(list(CHAINS), [f"{eta:g}" for eta in CHAINS])
    objective.minorticks_off()
    letters(axes[0], (r"tanh1d, $N \to \infty$", rf"tanh1d, {sizes(N=WIDTH)}", "gauss"))
    handles.append(proxy(r"(a) $\beta$, (b) $b/N + \eta\beta$, (c) limit $\times\ \eta^2$", THEORY, linestyle="-"))
    title = rf"(a), (c): exact laws of the chain; (b): noisy GD, {seeds} seeds of {networks} networks, {snapshots} snapshots; "
    title += "mean and 95% CI\nlines: first order in $1/N$ and in $\\eta$"
    shared_legend(drawing, handles, title, 3)
    return drawing


FIGURE = Figure(f"{PAPER}.step-size", QUESTION, step_size)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.step-size-bias"], figures=[FIGURE]))
