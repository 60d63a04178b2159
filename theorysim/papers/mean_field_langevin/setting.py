"""Networks and data: the neuron function, the loss, the data set, temperature and regularisation.

A problem here describes one for both sides: `kernel()` is that of the algorithms. Problems without randomness of their own; what
is drawn is the particles' start and noise.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from theorysim.errors import require
from theorysim.kernels import langevin
from theorysim.sweep import setting

NeuronName = Literal["tanh", "rbf", "linear", "tanh-with-bias"]
LossName = Literal["squared", "logistic"]

RADIUS = 3.0
"""Of the neuron with bias, h(x, z) = 3 tanh(<w, z> + b)."""


@setting
class Problem:
    """Data z_j, y_j, j = 1..n, for neurons h(x, z); lam: temperature lambda, lamp: lambda' of the regulariser lamp |x|^2."""

    neuron: NeuronName
    loss: LossName
    Z: Float[np.ndarray, "n q"]
    y: Float[np.ndarray, " n"]
    lam: float
    lamp: float

    def validate(self) -> None:
        langevin.Model.of(self._kernel_neuron(), self.loss, self.Z, self.y, lamp=self.lamp, lam=self.lam)
        require(0 < self.lam < math.inf, f"temperature lam must be positive and finite, got {self.lam}")

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def d(self) -> int:
        """Dimension of a particle."""
        return self.Z.shape[1] + (self.neuron == "tanh-with-bias")

    def kernel(self) -> langevin.Model:
        """The model of the algorithms; its numbers may be traced."""
        return langevin.Model.of(self._kernel_neuron(), self.loss, self.Z, self.y, lamp=self.lamp, lam=self.lam)

    def _kernel_neuron(self) -> langevin.Neuron | str:
        biased = self.neuron == "tanh-with-bias"
        return langevin.Ridge("tanh", radius=RADIUS, bias=True) if biased else self.neuron


def _column(*values: float) -> Float[np.ndarray, "n 1"]:
    return np.array(values)[:, None]


def tanh1d() -> Problem:
    """Two data for a one-dimensional tanh neuron, squared loss."""
    return Problem("tanh", "squared", _column(0.7, 2.0), np.array([0.8, -0.4]), 0.05, 0.05)


def tanhlog() -> Problem:
    """Three labels for a one-dimensional tanh neuron, logistic loss."""
    return Problem("tanh", "logistic", _column(0.7, 2.0, -1.0), np.array([1.0, -1.0, 1.0]), 0.05, 0.05)


def rbf(lam: float) -> Problem:
    """Two radial neurons' centres: mu* is bimodal and its log-Sobolev constant collapses as lam falls."""
    return Problem("rbf", "squared", _column(-1.5, 1.5), np.ones(2), lam, 0.02)


GAUSS = np.array([[1, 0.5, -0.3], [-0.4, 1.2, 0.8], [0.3, -0.9, 1.1], [1.5, 0.2, 0.6], [-0.7, 0.4, -1.3]])


def gauss() -> Problem:
    """The linear neuron: everything is Gaussian."""
    return Problem("linear", "squared", GAUSS, np.array([1.0, -1.0, 0.5, 2.0, -0.5]), 0.1, 0.15)


def circles(lam: float = 0.05, lamp: float = 0.05) -> Problem:
    """40 points on two noisy circles of radii 1 and 2, labelled +1 and -1; squared loss."""
    rng = np.random.default_rng(0)
    angle, inner = rng.uniform(0, 2 * np.pi, 40), np.arange(40) % 2 == 0
    radius = np.where(inner, 1.0, 2.0)
    Z = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.standard_normal((40, 2))
    return Problem("tanh-with-bias", "squared", Z, np.where(inner, 1.0, -1.0), lam, lamp)
