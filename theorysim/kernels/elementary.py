"""Elementary functions that share their costly part: the logistic family its exponential, sine and cosine their reduction.

In float64 on a CPU, XLA's `exp` and `log1p` cost about three times the arithmetic of the polynomials below, which use
nothing but fused multiply-adds, so that whole activation layers stay vectorised. Accuracy is a few units in the last place.
In other dtypes the standard functions are used.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import jax.scipy.special
from jax import lax
from jaxtyping import Array, Float

_LOG2E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238  # 33 bits: k * _LN2_HIGH is exact for |k| < 2^20
_LN2_LOW = 1.9082149292705877e-10
_EXP_DEGREE = 12  # |r| <= ln(2)/2: remainder below 2e-16
_ATANH_TERMS = 16  # s <= 1/3: remainder below 1e-17
# Chebyshev interpolant of e^{x^2} erfc(x) / t in v = 2t - 1, t = 4/(4 + x), x >= 0, as a polynomial in v; error 6e-16.
_ERFCX = (
    0.27399891525012277, 0.2441371822702206, 0.19330217556630902, 0.13521345782829913, 0.08271289696952584,
    0.04350273431022892, 0.019095378726752158, 0.006592513332237486, 0.0015280139205288011, 7.023973429864022e-05,
    -0.00011376321237622333, -4.420327118929924e-05, -9.086395093590862e-07, 4.715370444493941e-06,
    1.1732609498291667e-06, -3.562393200959625e-07, -2.1111037846283067e-07, 1.8994402187265254e-08,
    3.077901855639743e-08, -2.0691219034054744e-10, -3.880515697903128e-09, -6.617942512486173e-11,
    3.130423070529455e-10,
)  # fmt: skip


# The public functions carry derivatives by hand and call the plain ones: nested rules would be traced again and again.


@jax.custom_jvp
def exp_minus(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """e^{-t} for t >= 0; zero from t = 708 on, where the result would be subnormal (float64)."""
    return _exp_minus(t)


def _exp_minus(t: Float[Array, "..."]) -> Float[Array, "..."]:
    if t.dtype != jnp.float64:
        return jnp.exp(-t)
    # NaN passes through the polynomial: the clip keeps only the exponent bits finite.
    clipped = jnp.minimum(t, 708.0)
    k = jnp.floor(clipped * _LOG2E + 0.5)
    r = k * _LN2_HIGH - clipped + k * _LN2_LOW
    value = jnp.full_like(r, 1 / math.factorial(_EXP_DEGREE))
    for j in range(_EXP_DEGREE - 1, -1, -1):
        value = value * r + 1 / math.factorial(j)
    exponent = jnp.nan_to_num(k).astype(jnp.int64)
    scaled = value * lax.bitcast_convert_type((1023 - exponent) << 52, jnp.float64)
    return jnp.where(t >= 708.0, 0.0, scaled)


@exp_minus.defjvp
def _exp_minus_jvp(primals, tangents):
    value = exp_minus(*primals)
    return value, -value * tangents[0]


@jax.custom_jvp
def log1p_unit(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + x) for 0 <= x <= 1, as 2 artanh(x / (2 + x))."""
    return _log1p_unit(x)


def _log1p_unit(x: Float[Array, "..."]) -> Float[Array, "..."]:
    if x.dtype != jnp.float64:
        return jnp.log1p(x)
    s = x / (2 + x)
    square = s * s
    series = jnp.full_like(square, 1 / (2 * _ATANH_TERMS + 1))
    for k in range(2 * _ATANH_TERMS - 1, 0, -2):
        series = series * square + 1 / k
    return 2 * s * series


@log1p_unit.defjvp
def _log1p_unit_jvp(primals, tangents):
    return log1p_unit(*primals), tangents[0] / (1 + primals[0])


@jax.custom_jvp
def softplus_sigmoid(z: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(log(1 + e^z), 1/(1 + e^{-z})) from one exponential, without overflow."""
    e = _exp_minus(jnp.abs(z))
    r = 1 / (1 + e)
    return jnp.maximum(z, 0) + _log1p_unit(e), jnp.where(z >= 0, r, e * r)


@softplus_sigmoid.defjvp
def _softplus_sigmoid_jvp(primals, tangents):
    # By hand, because |z| has no derivative at 0, where these functions are smooth.
    (z,), (dz,) = primals, tangents
    value, s = softplus_sigmoid(z)
    _, complement = softplus_sigmoid(-z)
    return (value, s), (s * dz, s * complement * dz)


@jax.custom_jvp
def normal_cdf_density(z: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(Phi(z), phi(z)): distribution function and density of the standard normal law, from one exponential.

    Phi is accurate relative to itself in the lower tail, down to z = -37.
    """
    density_ratio = _exp_minus(0.5 * z * z)
    density = 0.3989422804014327 * density_ratio
    if z.dtype != jnp.float64:
        return jax.scipy.special.ndtr(z), density
    t = 4 / (4 + jnp.abs(z) * 0.7071067811865476)
    v = 2 * t - 1
    series = jnp.full_like(v, _ERFCX[-1])
    for coefficient in _ERFCX[-2::-1]:
        series = series * v + coefficient
    tail = 0.5 * density_ratio * t * series
    return jnp.where(z >= 0, 1 - tail, tail), density


@normal_cdf_density.defjvp
def _normal_cdf_density_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    cdf, density = normal_cdf_density(z)
    return (cdf, density), (density * dz, -z * density * dz)


def logistic_loss(margin: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(ell(F), |ell'(F)|) = (log(1 + e^{-F}), 1/(1 + e^F)) for margins F."""
    return softplus_sigmoid(-margin)


def log_logistic_loss(margin: Float[Array, "..."]) -> Float[Array, "..."]:
    """log ell(F), finite for every finite margin: -F - e^{-F}/2 once ell(F) itself would lose digits."""
    large = 30.0  # ell(F) = e^{-F} (1 - e^{-F}/2 + ...): the next term is below 1e-26
    e = exp_minus(jnp.maximum(margin, 0))
    loss, _ = logistic_loss(jnp.minimum(margin, large))
    return jnp.where(margin > large, -margin - e / 2, jnp.log(loss))


# pi/2 in three parts, short enough for k * part to be exact for |k| < 2^20 (float64) and 2^14 (float32).
_HALF_PI = {
    jnp.dtype("float64"): (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21),
    jnp.dtype("float32"): (1.5703125, 4.83751296997e-4, 7.54978995489e-8),
}
_SINCOS_TERMS = {jnp.dtype("float64"): 8, jnp.dtype("float32"): 4}  # |r| <= pi/4: remainders below half a unit of 1


@jax.custom_jvp
def sincos(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Sine and cosine, absolute error a few units in the last place of 1 for |x| < 10^6 (float64) or 2 10^4 (float32)."""
    return _sincos(x)


def _sincos(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    if x.dtype not in _HALF_PI:
        return jnp.sin(x), jnp.cos(x)
    terms = _SINCOS_TERMS[x.dtype]
    k = jnp.floor(x * (2 / math.pi) + 0.5)
    r = x
    for part in _HALF_PI[x.dtype]:
        r = r - k * part
    square = r * r
    sine, cosine = jnp.zeros_like(r), jnp.zeros_like(r)
    for j in range(terms, 0, -1):
        sine = sine * square + (-1) ** j / math.factorial(2 * j + 1)
        cosine = cosine * square + (-1) ** j / math.factorial(2 * j)
    sine, cosine = r + r * square * sine, 1 + square * cosine
    # The quadrant k mod 4 in floating point, since conversions to integers do not vectorise everywhere.
    quarter = k * 0.25 - jnp.floor(k * 0.25)
    odd = (quarter == 0.25) | (quarter == 0.75)
    turned_sine, turned_cosine = jnp.where(odd, cosine, sine), jnp.where(odd, sine, cosine)
    negative = (quarter == 0.25) | (quarter == 0.5)
    return jnp.where(quarter >= 0.5, -turned_sine, turned_sine), jnp.where(negative, -turned_cosine, turned_cosine)


@sincos.defjvp
def _sincos_jvp(primals, tangents):
    sine, cosine = sincos(*primals)
    return (sine, cosine), (cosine * tangents[0], -sine * tangents[0])
