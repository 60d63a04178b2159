"""Prompts of in-context regression on single-index tasks: y = sigma(<beta, x>) + noise, with a new direction beta in each prompt.

beta is uniform on the unit sphere of the span of the first r coordinates of R^d. That this subspace is a coordinate one is no
restriction, since the inputs are isotropic. The link sigma = sum_k (c_k/k!) He_k has probabilists' Hermite polynomials and fixed or
random coefficients, or it is any function (data model of Oko, Song, Suzuki, Wu, NeurIPS 2024, arXiv 2411.02544).

A prompt is a function of the key and its own number alone, so that streams of prompts can be cut anywhere, divided among
devices and resumed. Two lengths under one key share their first examples.

>>> law = PromptLaw(d=16, r=2, link=monomial(2), tau=0.1)
>>> batch = sample(key, law, jnp.arange(64), length=32)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, Key

from theorysim.errors import require
from theorysim.kernels.noise import counters, key_words, normals, signs

Scalar = Float[Array, ""]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""

NOISES = ("sign", "gaussian")
"""Laws of the label noise, of variance tau^2: +-tau with equal probability, or Gaussian."""

INPUTS = ("gaussian", "sphere")
"""Laws of the inputs: N(0, I_d), or uniform on the sphere of radius sqrt(d)."""

_INPUT, _DIRECTION, _LINK, _NOISE = 0x50726F6D, 0x50726F6E, 0x50726F6F, 0x50726F70


# --- links ------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Link(Protocol):
    """sigma, with what it draws for each prompt. Instances are pytrees, or hashable constants of the caller's `jit`."""

    @property
    def draws(self) -> int:
        """Standard normal numbers that it takes in each prompt."""
        ...

    def __call__(self, z: Float[Array, "*n"], u: Float[Array, " draws"]) -> Float[Array, "*n"]:
        """sigma(z) of one prompt, elementwise, given its draws."""
        ...


@functools.partial(jax.tree_util.register_dataclass, data_fields=["coefficients"], meta_fields=[])
@dataclass(frozen=True)
class Hermite:
    """sum_k (c_k/k!) He_k with fixed c_0, ..., c_P, shape (P + 1,)."""

    coefficients: Float[Array, " degrees"] | Float[np.ndarray, " degrees"]

    @property
    def draws(self) -> int:
        return 0

    def __call__(self, z: Float[Array, "*n"], u: Float[Array, " draws"]) -> Float[Array, "*n"]:
        return hermite_series(self.coefficients, z)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["root"], meta_fields=["lowest"])
@dataclass(frozen=True)
class RandomHermite:
    """sum_k (c_k/k!) He_k over k = Q, Q + 1, ..., with c = sqrt(n) R u, u uniform on S^{n-1}: E c c^T = C = R R^T.

    root: R, shape (K, n). lowest: Q, the least degree. See `random_hermite`.
    """

    root: Float[Array, "K n"] | Float[np.ndarray, "K n"]
    lowest: int

    @property
    def draws(self) -> int:
        return self.root.shape[1]

    def __call__(self, z: Float[Array, "*n"], u: Float[Array, " draws"]) -> Float[Array, "*n"]:
        c = math.sqrt(self.draws) * jnp.matmul(jnp.asarray(self.root, u.dtype), _unit(u), precision=PRECISE)
        return hermite_series(jnp.concatenate([jnp.zeros(self.lowest, u.dtype), c]), z)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["function"])
@dataclass(frozen=True)
class FixedLink:
    """Any sigma(z), an elementwise function of JAX arrays."""

    function: Callable[[Array], Array]

    @property
    def draws(self) -> int:
        return 0

    def __call__(self, z: Float[Array, "*n"], u: Float[Array, " draws"]) -> Float[Array, "*n"]:
        return self.function(z)


def hermite(coefficients: Sequence[float]) -> Hermite:
    """The link of fixed Hermite coefficients c_0, ..., c_P. Raises InputError unless there are some, all finite."""
    values = np.asarray(coefficients, np.float64)
    require(values.size >= 1, "coefficients of a link must be at least one, got none")
    require(bool(np.isfinite(values).all()), f"coefficients of a link must be finite, got {values.tolist()}")
    return Hermite(values)


def monomial(degree: int) -> Hermite:
    """He_k/sqrt(k!), of unit variance."""
    require(degree >= 0, f"degree of the link must be at least 0, got {degree}")
    return hermite([0.0] * degree + [math.sqrt(math.factorial(degree))])


def random_hermite(moments: Float[np.ndarray, "K K"], lowest: int) -> RandomHermite:
    """Random Hermite coefficients of degrees lowest, lowest + 1, ... with E c c^T = moments (C).

    Raises InputError unless lowest >= 0 and C is symmetric and positive semi-definite.
    """
    require(lowest >= 0, f"lowest degree of a link must be at least 0, got {lowest}")
    require(
        bool(np.isfinite(moments).all() and np.allclose(moments, moments.T)),
        "moments C of a link must be a symmetric matrix",
    )
    scale = np.sqrt(np.maximum(np.diag(moments), 0))
    safe = np.where(scale > 0, scale, 1)
    values, vectors = np.linalg.eigh(moments / np.outer(safe, safe))  # moments grow like k!
    require(
        bool(values[0] >= -1e-9), f"moments C of a link must be positive semi-definite, got eigenvalue {values[0]:.3g}"
    )
    return RandomHermite(safe[:, None] * vectors * np.sqrt(np.maximum(values, 0)), lowest)


def hermite_series(
    coefficients: Float[Array, " degrees"] | Float[np.ndarray, " degrees"], z: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """sum_k (c_k/k!) He_k(z), in the dtype of z, by Clenshaw's recurrence.

    (k + 1) h_{k+1} = z h_k - h_{k-1} for h_k = He_k/k!, which neither underflow nor overflow at high degrees.
    """
    c = jnp.asarray(coefficients, z.dtype)
    now = after = jnp.zeros_like(z)
    for k in range(len(coefficients) - 1, -1, -1):
        now, after = c[k] + z * now / (k + 1) - after / (k + 2), now
    return now


# --- prompts ----------------------------------------------------------------------------------------------------------


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["link", "tau"], meta_fields=["d", "r", "noise", "inputs"]
)
@dataclass(frozen=True)
class PromptLaw:
    """Law of a prompt.

    d: dimension. r: dimension of the subspace of the directions; r = d is all of R^d. link: sigma. tau: standard deviation
    of the labels' noise. noise: in `NOISES`. inputs: in `INPUTS`.

    Raises InputError unless 1 <= r <= d and names are known; and, where its value is known, unless tau >= 0.
    """

    d: int
    r: int
    link: Link
    tau: Scalar | float
    noise: str = "sign"
    inputs: str = "gaussian"

    def __post_init__(self) -> None:
        require(1 <= self.r <= self.d, f"dimension r of the subspace must lie in [1, d = {self.d}], got {self.r}")
        require(self.noise in NOISES, f"noise must be one of {', '.join(NOISES)}, got {self.noise!r}")
        require(self.inputs in INPUTS, f"inputs must be one of {', '.join(INPUTS)}, got {self.inputs!r}")
        if isinstance(self.tau, int | float | np.number):
            require(0 <= self.tau < math.inf, f"noise level tau must be at least 0, got {self.tau}")


class Prompts(NamedTuple):
    """A batch of prompts of N examples each; the last is the query.

    X: inputs. y: labels with noise. f: sigma(<beta, x>). beta: directions in the subspace. u: what the links have drawn.
    """

    X: Float[Array, "... N d"]
    y: Float[Array, "... N"]
    f: Float[Array, "... N"]
    beta: Float[Array, "... r"]
    u: Float[Array, "... draws"]


def sample(
    key: Key[Array, ""], law: PromptLaw, numbers: Integer[Array, " B"], *, length: int, dtype: Any = jnp.float32
) -> Prompts:
    """The prompts of these numbers (below 2^32): `length` examples of context and the query, X of shape (B, length + 1, d).

    Raises InputError unless length >= 0 and (length + 1) d < 2^32.
    """
    return sampler(key, law, length=length, dtype=dtype)(numbers)


def sampler(
    key: Key[Array, ""], law: PromptLaw, *, length: int, dtype: Any = jnp.float32
) -> Callable[[Integer[Array, " B"]], Prompts]:
    """`sample` as a function of the numbers alone, for loops over prompts: what the key gives is found only once."""
    require(length >= 0, f"length of a prompt must be at least 0, got {length}")
    require((length + 1) * law.d < 2**32, f"(length + 1) d must be below 2^32, got {(length + 1) * law.d}")
    words = {stream: key_words(key, stream) for stream in (_INPUT, _DIRECTION, _LINK, _NOISE)}

    def one(number: Integer[Array, ""]) -> Prompts:
        # Flat and then reshaped, since loops over short axes are slow.
        draw = lambda law_of_draw, stream, count: law_of_draw(words[stream], counters(0, count), number, dtype)
        X = draw(normals, _INPUT, (length + 1) * law.d).reshape(length + 1, law.d)
        if law.inputs == "sphere":
            X = math.sqrt(law.d) * _unit(X)
        beta, u = _unit(draw(normals, _DIRECTION, law.r)), draw(normals, _LINK, law.link.draws)
        f = law.link(jnp.matmul(X[:, : law.r], beta, precision=PRECISE), u)
        noise = draw(signs if law.noise == "sign" else normals, _NOISE, length + 1)
        return Prompts(X, f + jnp.asarray(law.tau, dtype) * noise, f, beta, u)

    return jax.vmap(one)


def _unit(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Along the last axis."""
    return x * lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True))


# --- prior kernel -----------------------------------------------------------------------------------------------------


def prior_kernel(
    moments: Float[Array, "K K"] | Float[np.ndarray, "K K"], lowest: int, r: int
) -> Callable[[Float[Array, "n D"], Float[Array, "p D"]], Float[Array, "n p"]]:
    """K(x, x') = E f(x) f(x') over the direction and the link, as the function (X, Z) -> matrix (n, p) of points in R^D, D >= r.

    moments: C_kl = E c_k c_l over degrees lowest, lowest + 1, .... Only the first r coordinates of points enter; for a
    subspace that nobody knows, r is d.

    The mean over the sphere is exact, by Wick's formula: beta = g/|g| with g ~ N(0, I_r), so that
    E <beta,x>^i <beta,x'>^j is E <g,x>^i <g,x'>^j over E |g|^{i+j}, and the sum over pairings has a powers of <x,x'>
    times i! j! / (a! p! q! 2^{p+q}) |x|^{2p} |x'|^{2q}, with i = a + 2p, j = a + 2q. For use in float64.
    """
    require(r >= 1, f"dimension r of the subspace must be at least 1, got {r}")
    powers = _monomials(lowest + len(moments) - 1)[lowest:]  # row k: coefficients of z^i in He_k/k!
    mixed = jnp.asarray(powers.T) @ jnp.asarray(moments) @ jnp.asarray(powers)  # E of the coefficients of z^i z'^j

    def kernel(X: Float[Array, "n D"], Z: Float[Array, "p D"]) -> Float[Array, "n p"]:
        X, Z = X[:, :r], Z[:, :r]
        product = jnp.matmul(X, Z.T, precision=PRECISE)
        square, other = jnp.sum(X * X, axis=1)[:, None], jnp.sum(Z * Z, axis=1)[None, :]
        total = jnp.zeros_like(product)
        for i in range(powers.shape[1]):
            for j in range(i % 2, powers.shape[1], 2):
                chi = math.prod(r + 2 * k for k in range((i + j) // 2))  # E |g|^{i+j}
                for a in range(i % 2, min(i, j) + 1, 2):
                    p, q = (i - a) // 2, (j - a) // 2
                    pairings = math.factorial(i) * math.factorial(j) // (math.factorial(a) * math.factorial(p))
                    weight = pairings / (math.factorial(q) * 2 ** (p + q) * chi)
                    total = total + mixed[i, j] * weight * product**a * square**p * other**q
        return total

    return kernel


def _monomials(degree: int) -> Float[np.ndarray, "degrees powers"]:
    """Coefficients of z^0, ..., z^degree in He_k/k!, row k."""
    rows = np.zeros((degree + 1, degree + 1))
    for k in range(degree + 1):
        for j in range(k // 2 + 1):
            rows[k, k - 2 * j] = (-1) ** j / (2**j * math.factorial(j) * math.factorial(k - 2 * j))
    return rows
