"""What arguments may be: types of broadcasting formulas, and checks that every module shares."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from theorysim.errors import InputError, require

Real = float | int | np.floating | np.integer | Shaped[np.ndarray, "..."]
"""A number or an array of any shape; arguments broadcast against each other."""

Value: TypeAlias = Any
"""What a broadcasting formula returns, typed as NumPy types its own ufuncs: float64, a scalar for scalars."""


def require_subspace(r: int, d: int) -> None:
    """1 <= r <= d."""
    require(d >= 1, f"dimension d must be at least 1, got {d}")
    require(1 <= r <= d, f"subspace dimension r must lie in [1, d = {d}], got {r}")


def require_dimension(r: int, least: int = 1) -> None:
    """r >= least."""
    require(r >= least, f"dimension r must be at least {least}, got {r}")


def require_noise(tau: float, *, positive: bool = False) -> None:
    """tau >= 0, or > 0 where a covariance must be invertible."""
    allowed = "positive" if positive else ">= 0"
    require(0 <= tau < np.inf and (tau > 0 or not positive), f"label noise tau must be {allowed} and finite, got {tau}")


def require_each(name: str, value: Value, admissible: Value, allowed: str) -> None:
    """Raise InputError with the first element at fault."""
    if not np.all(admissible):
        raise InputError(f"{name} must be {allowed}, got {np.asarray(value)[~np.asarray(admissible)].ravel()[0]:.6g}")


def float64(value: Real) -> Value:
    """As float64, a scalar for a scalar."""
    return np.asarray(value, dtype=np.float64)[()]
