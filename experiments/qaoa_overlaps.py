"""What QAOA puts out on one instance: its overlap with the spike against the law, and its cost."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import matplotlib.figure
import numpy as np
from matplotlib.patches import Patch
from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.kernels.qaoa import MOST_QUBITS
from theorysim.papers.qaoa_spiked_tensor.claims import OPTIMUM, PAPER, QUARTER, circuit, limit_law
from theorysim.papers.qaoa_spiked_tensor.figures import FILL, OVERLAP, density, histogram, lattice, law_at
from theorysim.papers.qaoa_spiked_tensor.instance import (
    OUTCOMES,
    OUTCOMES_OF_COST,
    AnyCost,
    Instance,
    Precision,
    load_costs,
    load_couplings,
    require_tensor,
)
from theorysim.papers.qaoa_spiked_tensor.setting import Circuit, check_angles, check_problem
from theorysim.plots import COLORS, TEXT, Figure, canvas, letters, proxy, shared_legend, sizes
from theorysim.plots import theory as line
from theorysim.sweep.memory import default_budget
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session

QUESTION = "Does a single instance, even one of your own, show the whole law of the overlap?"

SPINS = {"quick": 18, "standard": 22, "paper": 28}
"""n where none is given."""

MOST_LAYERS, MOST_POWER = 8, 128
"""Largest p and (q-1)^p at which the limit law is drawn: it takes time 4^p, and g^{(q-1)^p} leaves all bounds."""

MOST_SCALE, MOST_ORDER = 100.0, 16


@dataclass(frozen=True, kw_only=True)
class Overlaps(Script):
    """Options of this script."""

    n: Annotated[int | None, number("--n", int)] = None
    """Number of spins. Default: that of the files, else 18, 22 or 28 with the preset."""

    q: Annotated[int | None, number("--q", int)] = None
    """Order of the tensor. Default: that of --couplings, else 2."""

    scale: Annotated[float | None, number("--scale", float)] = None
    """Lambda in lambda_n = Lambda n^{(q-2+eps_p)/2}. Default: 1."""

    gammas: Annotated[tuple[float, ...], arg(metavar="FLOAT ...")] = (OPTIMUM,)
    """gamma_1 ... gamma_p."""

    betas: Annotated[tuple[float, ...], arg(metavar="FLOAT ...")] = (QUARTER,)
    """beta_1 ... beta_p."""

    couplings: Annotated[Path | None, arg(metavar="FILE.npy")] = None
    """An .npy file with the noise W, an n x ... x n array. Default: standard normal, from --seed."""

    costs: Annotated[Path | None, arg(metavar="FILE.npy")] = None
    """An .npy file with any cost, its values at all 2^n strings, in place of a tensor's."""

    precision: Precision = "single"
    """Of the state vector: single (complex64) or double."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the instance that the options name."""
        gammas, betas = np.array(self.gammas), np.array(self.betas)
        check_angles(gammas, betas)
        available = self._memory() or default_budget(jax.local_devices()[0])
        if self.costs is not None:
            others = ("--q", self.q), ("--scale", self.scale), ("--couplings", self.couplings)
            given = [name for name, value in others if value is not None]
            require(not given, f"--costs is the whole cost and takes no {' or '.join(given)}, got {str(self.costs)!r}")
            costs = AnyCost(load_costs(self.costs, available, self.precision), gammas, betas, self.precision)
            self._agree("--n", self.n, costs.n, self.costs)
            return (Figure(f"{PAPER}.overlaps", QUESTION, partial(any_cost, costs)),)
        W = None
        if self.couplings is not None:
            W = load_couplings(self.couplings, available, self.precision)
            self._agree("--n", self.n, W.shape[0], self.couplings)
            self._agree("--q", self.q, W.ndim, self.couplings)
            n, q = W.shape[0], W.ndim
        else:
            n, q = SPINS[self.preset] if self.n is None else self.n, 2 if self.q is None else self.q
        scale = 1.0 if self.scale is None else self.scale
        require(0 <= scale <= MOST_SCALE, f"--scale must be a number from 0 to {MOST_SCALE:g}, got {scale}")
        require(q <= MOST_ORDER, f"--q must be between 2 and {MOST_ORDER}, got {q}")
        check_problem(n, q, scale, MOST_QUBITS)
        require_tensor(n, q, available, self.precision)
        setting = Instance(circuit(n, q, gammas, betas, scale, precision=self.precision), W)
        return (Figure(f"{PAPER}.overlaps", QUESTION, partial(one_tensor, setting, scale)),)

    def _agree(self, option: str, value: int | None, known: int, path: Path) -> None:
        require(
            value is None or value == known, f"{option} must be {known}, as in {str(path)!r}, or left out, got {value}"
        )


def one_tensor(instance: Instance, scale: float, session: Session) -> matplotlib.figure.Figure:
    """Overlap of a tensor's circuit with the laws, and its cost."""
    circuit = instance.circuit
    (results,) = session.measure(OUTCOMES, Design((instance,)))
    drawing, axes = canvas(1, 2, width=TEXT, height=3.1)
    overlap, cost = axes[0]
    handles = []
    if circuit.gammas.size <= MOST_LAYERS and (circuit.q - 1) ** circuit.gammas.size <= MOST_POWER:
        histogram(overlap, limit_law(circuit, scale), circuit.n)
        handles.append(Patch(color=FILL, label=r"limit, $A\, \sin(2 q \gamma_p H)$"))
    finite = law_at(circuit)
    if finite is not None:
        line(overlap, lattice(circuit.n), density(finite), label=None)
        error = "exact" if circuit.gammas.size == 1 else "up to $O(1/n)$"
        handles.append(proxy(f"average over $W$ at this $n$, {error}", linestyle="-"))
    measured(axes[0], results)
    cost.axvline(circuit.snr, color=COLORS[2], linestyle="--", linewidth=1)
    handles.append(proxy(r"signal of the spike, $\lambda_n$", COLORS[2], linestyle="--", linewidth=1))
    noise = "$W$ drawn" if instance.W is None else "$W$ given"
    title = f"{sizes(n=circuit.n, q=circuit.q)}, " + rf"$\Lambda = {scale:g}$, one instance, {noise}; "
    finish(drawing, axes[0], handles, title + layers(circuit))
    return drawing


def any_cost(given: AnyCost, session: Session) -> matplotlib.figure.Figure:
    """Overlap with (1, ..., 1) and cost of a circuit on a given cost."""
    (results,) = session.measure(OUTCOMES_OF_COST, Design((given,)))
    drawing, axes = canvas(1, 2, width=TEXT, height=3.1)
    measured(axes[0], results)
    finish(drawing, axes[0], [], f"{sizes(n=given.n)}, cost as given; {layers(given)}")
    return drawing


def layers(setting: Circuit | AnyCost) -> str:
    """p and, where there are few, the angles, for the legend's title."""
    angles = (
        rf"$\{name} = ({', '.join(f'{value:.4g}' for value in values)})$"
        for name, values in (("gamma", setting.gammas), ("beta", setting.betas))
    )
    p = sizes(p=setting.gammas.size)
    return ", ".join((p, *angles)) if setting.gammas.size <= 4 else p


def measured(axes: np.ndarray, results: Results) -> None:
    """Laws of overlap and cost in the only instance."""
    overlap, cost = axes
    law, edges = results["law"][0].astype(float), results["edges"][0].astype(float)
    n = len(law) - 1
    overlap.plot(lattice(n), density(law), color=COLORS[0], marker="o", linestyle="none")
    for name, color in (("cost", COLORS[0]), ("uniform", COLORS[1])):
        cost.stairs(results[name][0].astype(float) / np.diff(edges) * n, edges / n, color=color)


def finish(drawing: matplotlib.figure.Figure, axes: np.ndarray, handles: list, title: str) -> None:
    """Labels and legend."""
    overlap, cost = axes
    overlap.set(xlabel=OVERLAP, ylabel="density", xlim=(-1.08, 1.08), ylim=(0, None))
    cost.set(xlabel="$C(z)/n$", ylabel="density", ylim=(0, None))
    letters(axes, ("overlap", "cost"))
    handles = [
        proxy("state vector", COLORS[0], "o", "-"),
        proxy("uniformly random strings", COLORS[1], linestyle="-"),
        *handles,
    ]
    shared_legend(drawing, handles, title, 3)


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Overlaps))
