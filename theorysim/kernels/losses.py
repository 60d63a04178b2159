"""Smooth convex losses l(u, y) of a prediction u and a target y, elementwise, with their first two derivatives in u."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theorysim.errors import InputError
from theorysim.kernels.elementary import logistic_loss

Real = Float[Array, "..."]
Scalar = Float[Array, ""]


@runtime_checkable
class Loss(Protocol):
    """Functions of predictions and targets of one shape."""

    def value(self, u: Real, y: Real) -> Real:
        """l."""
        ...

    def slope(self, u: Real, y: Real) -> Real:
        """dl/du."""
        ...

    def curvature(self, u: Real, y: Real) -> Real:
        """d^2 l/du^2 >= 0."""
        ...


class Squared(NamedTuple):
    """(u - y)^2/2."""

    def value(self, u: Real, y: Real) -> Real:
        return (u - y) ** 2 / 2

    def slope(self, u: Real, y: Real) -> Real:
        return u - y

    def curvature(self, u: Real, y: Real) -> Real:
        return jnp.ones_like(u)


class Logistic(NamedTuple):
    """log(1 + e^{-y u}), labels y in {-1, +1}."""

    def value(self, u: Real, y: Real) -> Real:
        return logistic_loss(y * u)[0]

    def slope(self, u: Real, y: Real) -> Real:
        return -y * logistic_loss(y * u)[1]

    def curvature(self, u: Real, y: Real) -> Real:
        return logistic_loss(u)[1] * logistic_loss(-u)[1]


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["function"])
@dataclass(frozen=True)
class Differentiated:
    """Any l(u, y) of two scalars, differentiated by JAX; convex and smooth in u, for which the caller vouches."""

    function: Callable[[Scalar, Scalar], Scalar]

    def value(self, u: Real, y: Real) -> Real:
        return jnp.vectorize(self.function)(u, y)

    def slope(self, u: Real, y: Real) -> Real:
        return jnp.vectorize(jax.grad(self.function))(u, y)

    def curvature(self, u: Real, y: Real) -> Real:
        return jnp.vectorize(jax.grad(jax.grad(self.function)))(u, y)


LOSSES: dict[str, Loss] = {"squared": Squared(), "logistic": Logistic()}


def as_loss(loss: Loss | Callable[[Scalar, Scalar], Scalar] | str) -> Loss:
    """A loss by its name in `LOSSES`, a function l(u, y) of two scalars as a `Differentiated`, any other as it is.

    Raises InputError for an unknown name.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise InputError(f"loss must be one of {', '.join(LOSSES)}, or a function l(u, y), got {loss!r}")
        return LOSSES[loss]
    return loss if isinstance(loss, Loss) else Differentiated(loss)
