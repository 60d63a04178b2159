"""What is prepared and measured: circuits on spiked tensors, their averages in closed form, and power iteration.

Conventions of the paper: Y = (lambda_n/n^{q/2}) u^{(x)q} + W/sqrt(n) with all n^q entries of W standard normal (not symmetrised),
u = (1, ..., 1) unless said otherwise, cost C(z) = n^{-(q-2)/2} <Y, z^{(x)q}>. `snr` is lambda_n throughout, never Lambda.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from theorysim.errors import require
from theorysim.kernels.qaoa import MOST_QUBITS
from theorysim.sweep import setting

Angles = Float[np.ndarray, " p"]


def angles(*values: float) -> Angles:
    """Angles gamma_1 ... gamma_p or beta_1 ... beta_p of a setting."""
    return np.array(values, float)


def check_problem(n: Any, q: int, snr: float, most: float = np.inf) -> None:
    """n >= 2 (and at most `most`), q >= 2, lambda_n finite; InputError otherwise."""
    limit = "at least 2" if np.isinf(most) else f"between 2 and {most:g}"
    require(2 <= n <= most, f"n must be {limit}, got {n:g}")
    require(q >= 2, f"order q of the tensor must be at least 2, got {q}")
    require(bool(np.isfinite(snr)), f"signal-to-noise ratio lambda_n must be finite, got {snr}")


def check_angles(gammas: Any, betas: Any) -> None:
    """One finite gamma and beta for each of one layer or more; InputError otherwise."""
    shapes = f"{np.shape(gammas)} and {np.shape(betas)}"
    equal = np.ndim(gammas) == 1 and np.shape(gammas) == np.shape(betas)
    require(equal, f"gammas and betas must be vectors of equal length, got shapes {shapes}")
    require(np.size(gammas) >= 1, "gammas and betas must hold one layer or more, got none")
    for name, values in (("gammas", gammas), ("betas", betas)):
        require(bool(np.isfinite(values).all()), f"{name} must be finite, got {values}")


@setting
class Circuit:
    """QAOA on one random spiked tensor.

    tensor: "raw" is the paper's; "doubled" has symmetric noise with entries of variance 1 off the diagonal, which doubles the
        variance of the couplings at q = 2 (for controls).
    precision: of the state vector; "single" is complex64.
    """

    n: int
    q: int
    snr: float
    gammas: Angles
    betas: Angles
    tensor: Literal["raw", "doubled"] = "raw"
    precision: Literal["single", "double"] = "double"

    def validate(self) -> None:
        check_problem(self.n, self.q, self.snr, MOST_QUBITS)
        check_angles(self.gammas, self.betas)
        require(self.tensor == "raw" or self.q == 2, f"tensor doubled is for q = 2, got q = {self.q}")


@setting
class Gauge:
    """Two circuits of depth p = `layers` on one draw of W, random spikes and angles: before and after the gauge transformation.

    moved: what is transformed by the signs u_j u'_j: signal and noise, or the signal alone (for controls).
    """

    n: int
    q: int
    snr: float
    layers: int = 2
    moved: Literal["tensor", "signal"] = "tensor"

    def validate(self) -> None:
        check_problem(self.n, self.q, self.snr, 12)
        require(self.layers >= 1, f"layers must be at least 1, got {self.layers}")


@setting
class Cost:
    """One random tensor and spike, whose cost is computed at all strings.

    repeated: what becomes of indices that occur twice in a term: they cancel (z^2 = 1), or are kept once (for controls).
    """

    n: int
    q: int
    snr: float
    repeated: Literal["cancel", "keep"] = "cancel"

    def validate(self) -> None:
        check_problem(self.n, self.q, self.snr, 12)


@setting
class OneStep:
    """One layer averaged over W in closed form, at every gamma of a grid; any n up to 10^6."""

    n: float
    q: int
    snr: float
    gammas: Angles
    beta: float

    def validate(self) -> None:
        check_problem(self.n, self.q, self.snr, 1e6)
        require(self.n == int(self.n), f"n must be an integer, got {self.n}")
        require(np.ndim(self.gammas) == 1 and np.size(self.gammas) > 0, "gammas must be a vector of one angle or more")


@setting
class Response:
    """The pure-noise circuit with a small field: e^{-i q gamma_s h sum z} joins the phase of layer s, for every s in turn."""

    n: int
    q: int
    gammas: Angles
    betas: Angles
    field: float = 0.02

    def validate(self) -> None:
        check_problem(self.n, self.q, 0.0, 20)
        check_angles(self.gammas, self.betas)
        require(self.field > 0, f"field h must be positive, got {self.field}")


@setting
class NoiseFree:
    """The circuit on the signal alone, W = 0, in the space of symmetric states; n to 10^4."""

    n: int
    q: int
    snr: float
    gammas: Angles
    betas: Angles

    def validate(self) -> None:
        check_problem(self.n, self.q, self.snr, 10_000)
        check_angles(self.gammas, self.betas)


@setting
class PowerIteration:
    """Tensor power iteration from a uniform random direction; `symmetrised` averages Y over permutations of its axes."""

    n: int
    q: int
    snr: float
    steps: int = 1
    symmetrised: bool = False

    def validate(self) -> None:
        check_problem(self.n, self.q, self.snr)
        require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")


@setting
class Unfolding:
    """QAOA on the n^{q/2} x n^{q/2} unfolding of an even-order tensor, q = 4, as a matrix problem of N = n^2 spins.

    rescaled: the unfolding times sqrt(n/N), or as it is (for controls).
    """

    n: int
    snr: float
    gammas: Angles
    betas: Angles
    rescaled: bool = True

    def validate(self) -> None:
        check_problem(self.n, 4, self.snr, 5)
        check_angles(self.gammas, self.betas)
