"""How large rounding can be: measured floors for identities, and the classical running-error constant for bounds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theorysim.errors import require

JITTERS = 4
"""Evaluations at inputs jittered by relative 2^-20 over which a floor is the largest."""


def gamma(operations: int, dtype: type = np.float64) -> float:
    """k u / (1 - k u), u the unit roundoff: bounds the relative error of a chain of k operations (Higham 2002, 3.1).

    Times the sum of the absolute terms it bounds the error of a sum or dot product.
    """
    unit = float(np.finfo(dtype).eps) / 2
    require(0 <= operations * unit < 1, f"operations must be at least 0 and below 1/u, got {operations}")
    return operations * unit / (1 - operations * unit)


def jittered(x: Float[np.ndarray, "*inputs"], rng: np.random.Generator) -> Float[np.ndarray, "jitters ..."]:
    """Float32-representable inputs within relative 2^-20 of `x`, as float64."""
    factors = 1 + rng.uniform(-1, 1, (JITTERS, *x.shape)) * 2.0**-20
    return (x * factors).astype(np.float32).astype(np.float64)


def rounding_floor(
    single: Float[np.ndarray, "jitters ..."],
    double: Float[np.ndarray, "jitters ..."],
    scale: ArrayLike,
) -> Float[np.ndarray, "*inputs"]:
    """Relative rounding error to be expected in float64, measured on one side of an identity.

    `single` and `double` are the side in the two precisions at the same jittered float32 inputs; the float64 error is
    their difference scaled by 2^-29, with a safety factor 64. Take the larger of the two sides' floors.
    """
    difference = np.abs(single.astype(np.float64) - double).max(0)
    return 64 * 2.0**-29 * difference / np.asarray(scale)
