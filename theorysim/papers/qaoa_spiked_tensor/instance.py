"""One instance in full: overlaps and costs of what a circuit puts out, on a random tensor, a given one, or any cost."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float, Key, Shaped

from theorysim.errors import InputError, require
from theorysim.kernels import qaoa
from theorysim.papers.qaoa_spiked_tensor.claims import PAPER
from theorysim.papers.qaoa_spiked_tensor.measurements import DTYPES, noise_costs, signal
from theorysim.papers.qaoa_spiked_tensor.setting import Angles, Circuit, check_angles
from theorysim.sweep import Experiment, setting
from theorysim.sweep.memory import format_memory

Precision = Literal["single", "double"]

BINS = 64
"""Bins of costs, between the least and the largest."""

TENSORS = 4
"""Arrays of n^q numbers at a time: the draw, the scaled copy, the masks, what is scattered."""


@setting
class Instance:
    """QAOA on one tensor, its noise given or, where there is none, drawn.

    W: noise, shape (n,) * q; its entries have variance 1 in the paper.
    """

    circuit: Circuit
    W: Shaped[np.ndarray, "..."] | None = None

    def validate(self) -> None:
        if self.W is not None:
            shape = (self.circuit.n,) * self.circuit.q
            require(self.W.shape == shape, f"couplings W must have shape {shape}, got {self.W.shape}")


@setting
class AnyCost:
    """QAOA on any cost: its values at all 2^n strings, bit j of an index being 0 where z_j = +1."""

    costs: Shaped[np.ndarray, "..."]
    gammas: Angles
    betas: Angles
    precision: Precision = "double"

    def validate(self) -> None:
        _bits(self.costs.shape)
        check_angles(self.gammas, self.betas)

    @property
    def n(self) -> int:
        return _bits(self.costs.shape)


# --- measuring --------------------------------------------------------------------------------------------------------


def outcomes(key: Key[Array, ""], instance: Instance) -> dict[str, Array]:
    """Laws of the overlap and of the cost of a measured string.

    law: P(#minus = k), shape (n+1,). edges: of BINS bins from the least to the largest cost, shape (BINS+1,). cost,
    uniform: probabilities of these bins under the circuit and for a uniformly random string, shape (BINS,).
    """
    circuit = instance.circuit
    dtype, half = DTYPES[circuit.precision], circuit.q % 2 == 0
    drawn = random.normal(key, (circuit.n,) * circuit.q, dtype) if instance.W is None else instance.W
    noise = noise_costs(jnp.asarray(drawn, dtype), half=half)
    costs = noise + signal(noise.size, circuit.n, circuit.q, circuit.snr, dtype)
    return _laws(costs, jnp.asarray(circuit.gammas), jnp.asarray(circuit.betas), half)


def outcomes_of_cost(key: Key[Array, ""], given: AnyCost) -> dict[str, Array]:
    """The same for a given cost, with the overlap with (1, ..., 1)."""
    costs = jnp.asarray(given.costs, DTYPES[given.precision])
    return _laws(costs, jnp.asarray(given.gammas), jnp.asarray(given.betas), False)


def _laws(
    costs: Float[Array, " N"], gammas: Float[Array, " p"], betas: Float[Array, " p"], half: bool
) -> dict[str, Array]:
    p = qaoa.probabilities(costs, gammas, betas, half=half)
    low, high = costs.min(), costs.max()
    edges = jnp.linspace(low, jnp.where(high > low, high, low + 1), BINS + 1)
    edges = edges.at[-1].set(jnp.nextafter(edges[-1], jnp.inf))  # bins are open above
    return {
        "law": qaoa.overlap_distribution(p, half=half),
        "edges": edges,
        "cost": qaoa.cost_distribution(p, costs, edges),
        "uniform": qaoa.cost_distribution(jnp.full_like(costs, 1 / costs.size), costs, edges),
    }


def _admit(instance: Instance, available: float) -> None:
    circuit = instance.circuit
    require_tensor(circuit.n, circuit.q, available, circuit.precision)


def _admit_cost(given: AnyCost, available: float) -> None:
    qaoa.require_memory(given.n, available, itemsize=_itemsize(given.precision))


OUTCOMES = Experiment(f"{PAPER}/outcomes", outcomes, admit=_admit)
OUTCOMES_OF_COST = Experiment(f"{PAPER}/outcomes-of-cost", outcomes_of_cost, admit=_admit_cost)


# --- input ------------------------------------------------------------------------------------------------------------


def require_tensor(n: int, q: int, available: float, precision: Precision) -> None:
    """Raises InputError where the state vector or the tensor would occupy more than `available` bytes."""
    qaoa.require_memory(n, available, itemsize=_itemsize(precision), half=q % 2 == 0)
    need = TENSORS * _itemsize(precision) * float(n) ** q
    require(
        need <= available,
        f"tensor of order q = {q} with n = {n} needs {format_memory(need)}, more than the {format_memory(available)} there are",
    )


def load_couplings(path: Path, available: float, precision: Precision) -> Float[np.ndarray, "..."]:
    """Noise W from an .npy file: a real array of shape (n,) * q, n, q >= 2.

    Raises InputError for a file that is missing or no such array, entries that are not finite, and n too large for
    `available` bytes.
    """
    array = _open(path, "couplings")
    n, q = array.shape[0] if array.ndim else 0, array.ndim
    cubic = q >= 2 and n >= 2 and array.shape == (n,) * q
    require(cubic, f"couplings in {path} must have shape (n, n), (n, n, n), ... with n >= 2, got {array.shape}")
    require(n <= qaoa.MOST_QUBITS, f"couplings in {path} must be of n <= {qaoa.MOST_QUBITS} spins, got n = {n}")
    require_tensor(n, q, available, precision)
    return _finite(array, f"couplings in {path}")


def load_costs(path: Path, available: float, precision: Precision) -> Float[np.ndarray, " N"]:
    """Costs of all strings from an .npy file: a real vector of length 2^n, n >= 2. Raises InputError likewise."""
    array = _open(path, "costs")
    n = _bits(array.shape, f" in {path}")
    require(n <= qaoa.MOST_QUBITS, f"costs in {path} must be of n <= {qaoa.MOST_QUBITS} spins, got n = {n}")
    qaoa.require_memory(n, available, itemsize=_itemsize(precision))
    return _finite(array, f"costs in {path}")


def _open(path: Path, name: str) -> np.ndarray:
    """An array on the disk; its values are read later, if its shape is admissible."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"{name} must be an .npy file that can be read, got {str(path)!r}: {error.strerror}") from None
    except (ValueError, EOFError):  # no .npy file, cut short, or with Python objects
        array = None
    plain = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
    require(plain, f"{name} must be an .npy file with an array of real numbers, got {str(path)!r}")
    assert array is not None
    return array


def _finite(array: np.ndarray, name: str) -> Float[np.ndarray, "..."]:
    values = np.asarray(array, np.float64)
    bad = values.size - np.count_nonzero(np.isfinite(values))
    require(bad == 0, f"{name} must be finite, got {bad} of {values.size} entries NaN or infinite")
    return values


def _bits(shape: tuple[int, ...], where: str = "") -> int:
    """n of a vector of 2^n costs. Raises InputError for any other shape."""
    length = shape[0] if len(shape) == 1 else 0
    power = length >= 4 and length & (length - 1) == 0
    require(power, f"costs{where} must be a vector of 2^n values, n >= 2, got shape {shape}")
    return length.bit_length() - 1


def _itemsize(precision: Precision) -> int:
    return 4 if precision == "single" else 8
