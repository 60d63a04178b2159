"""Activation functions with their slopes, each pair from as few transcendental functions as it needs.

Leaky versions phi_c(z) = c z + (1 - c) phi(z) are formed by the caller's `leak` c, a traced number in [0, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from theorysim.errors import InputError
from theorysim.kernels.elementary import normal_cdf_density, softplus_sigmoid

Real = Float[Array, "..."]
ValueAndSlope = Callable[[Real], tuple[Real, Real]]


def softplus(z: Real) -> tuple[Real, Real]:
    """log(1 + e^z) and its slope, the sigmoid."""
    return softplus_sigmoid(z)


def gelu(z: Real) -> tuple[Real, Real]:
    """z Phi(z) and Phi(z) + z phi(z), with the Gaussian distribution function Phi and density phi."""
    cdf, density = normal_cdf_density(z)
    return z * cdf, cdf + z * density


def silu(z: Real) -> tuple[Real, Real]:
    """z sigmoid(z) and its slope s + z s (1 - s)."""
    _, s = softplus_sigmoid(z)
    return z * s, s + z * s * (1 - s)


def huberised_relu(z: Real) -> tuple[Real, Real]:
    """0 for z <= 0, z^2/2 on [0, 1], z - 1/2 beyond; the slope is z clipped to [0, 1]. Width h of the quadratic part: 1."""
    slope = jnp.clip(z, 0, 1)
    return slope * (z - 0.5 * slope), slope


def linear(z: Real) -> tuple[Real, Real]:
    """The identity."""
    return z, jnp.ones_like(z)


ACTIVATIONS: dict[str, ValueAndSlope] = {
    "softplus": softplus,
    "gelu": gelu,
    "silu": silu,
    "huberised-relu": huberised_relu,
    "linear": linear,
}


def leaky(activation: str, z: Real, leak: Float[Array, ""] | float) -> tuple[Real, Real]:
    """Value and slope of phi_c(z) = c z + (1 - c) phi(z) with c = `leak`.

    Raises InputError for an unknown activation.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    value, slope = ACTIVATIONS[activation](z)
    return leak * z + (1 - leak) * value, leak + (1 - leak) * slope
