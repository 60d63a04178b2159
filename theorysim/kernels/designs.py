"""Designs X of linear models, of shape (n, p), by what iterative algorithms do with them: products with X and X^T.

Scaling: entries have variance 1/p, so that rows have squared norm about 1 and columns about delta = n/p. Vectors may carry leading
batch axes, which share the design. A design is a pytree: `jit` and `vmap` (over designs as well) are the caller's.

>>> design = Dense(sample(key, gaussian, n, p))                    # in memory
>>> design = regenerated(key, rademacher, n, p)                    # never in memory, entries drawn anew in every product
>>> design = marchenko_pastur(key, n, p)                           # never in memory, products by fast cosine transforms
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.fft import dct, idct
from jaxtyping import Array, Float, Int, Key

from theorysim.errors import require
from theorysim.kernels import noise

Coefficients = Float[Array, "*batch p"]
Observations = Float[Array, "*batch n"]
Law = Callable[[Key[Array, ""], tuple[int, ...], jnp.dtype], Array]
"""(key, shape, dtype) to independent entries of mean 0 and variance 1."""

DType = jnp.dtype | type

Leaf = Any
"""A field of a pytree: an array of the shape in the docstring, or what JAX puts there, such as a stack of them for `vmap`."""

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


class Design(ABC):
    """A linear map X from p coefficients to n observations. A new one states its shape and two products."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n, p)."""

    @abstractmethod
    def forward(self, m: Coefficients) -> Observations:
        """X m."""

    @abstractmethod
    def adjoint(self, z: Observations) -> Coefficients:
        """X^T z."""

    def residual(self, offset: Observations, m: Coefficients) -> tuple[Observations, Coefficients]:
        """z = offset - X m and X^T z: all that a gradient or a step of message passing needs of X, in one visit."""
        z = offset - self.forward(m)
        return z, self.adjoint(z)


# --- entries ----------------------------------------------------------------------------------------------------------


def gaussian(key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """N(0, 1), in float32 at least before rounding to `dtype`. Raises InputError for more entries than there are counters."""
    count = math.prod(shape)
    require(count < 2**32, f"entries of one array must be fewer than 2^32, got {count} for shape {shape}")
    wide = jnp.promote_types(dtype, jnp.float32)
    index = noise.counters(0, count)
    return noise.normals(noise.key_words(key, 0), index, jnp.uint32(0), wide).reshape(shape).astype(dtype)


def rademacher(key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Signs, from one random bit each."""
    count = int(np.prod(shape))
    words = random.bits(key, (-(-count // 32), 1), jnp.uint32)
    bits = (words >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return (2 * bits.astype(dtype) - 1).ravel()[:count].reshape(shape)


def sparse_signs(key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """A sign times sqrt(10) with probability 1/10, otherwise 0."""
    uniform = random.uniform(key, shape, dtype)
    return jnp.sqrt(jnp.asarray(10, dtype)) * ((uniform < 0.05).astype(dtype) - (uniform >= 0.95).astype(dtype))


def uniform(key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Uniform on [-sqrt(3), sqrt(3)]."""
    return random.uniform(key, shape, dtype, minval=-np.sqrt(3), maxval=np.sqrt(3))


def student_t5(key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Student's t with 5 degrees of freedom, scaled to variance 1; from two uniforms (Bailey, Math. Comp. 62, 779, 1994)."""
    # u is a multiple of eps: 0 stands for eps/2, the middle of what rounds to it, or one entry in 1/eps would be astronomical.
    u, v = random.uniform(key, (2, *shape), dtype, minval=float(jnp.finfo(dtype).eps) / 2)
    return jnp.sqrt(3 * jnp.expm1(-0.4 * jnp.log(u))) * jnp.cos(2 * np.pi * v)


# --- designs of independent entries -----------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=["matrix"], meta_fields=[])
@dataclass(frozen=True)
class Dense(Design):
    """X in memory, shape (n, p)."""

    matrix: Leaf

    @property
    def shape(self) -> tuple[int, int]:
        n, p = self.matrix.shape
        return n, p

    def forward(self, m: Coefficients) -> Observations:
        return _times(self.matrix, m)

    def adjoint(self, z: Observations) -> Coefficients:
        return jnp.matmul(z, self.matrix, precision=PRECISE)


def sample(key: Key[Array, ""], law: Law, n: int, p: int, dtype: DType = jnp.float32) -> Float[Array, "n p"]:
    """X with independent entries of the given law over sqrt(p): the matrix of `Regenerated(key, law, n, p)`.

    Raises InputError unless n and p are at least 1.
    """
    _require_size(n, p)
    return _rows(key, law, 0, n, p, jnp.dtype(dtype))


@partial(jax.tree_util.register_dataclass, data_fields=["key"], meta_fields=["law", "n", "p", "rows", "dtype"])
@dataclass(frozen=True)
class Regenerated(Design):
    """The matrix of `sample(key, law, n, p, dtype)`, `rows` rows of it in memory at a time, drawn anew in every product.

    `residual` draws each row once for both of its products. Time is that of the generator: signs cost a tenth of normal variables.
    """

    key: Leaf
    law: Law
    n: int
    p: int
    rows: int
    dtype: jnp.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.p

    def forward(self, m: Coefficients) -> Observations:
        return self._join(lax.map(lambda block: _times(self._block(block), m), self._blocks))

    def adjoint(self, z: Observations) -> Coefficients:
        def visit(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
            index, z = block
            return total + jnp.matmul(z, self._block(index), precision=PRECISE), None

        start = jnp.zeros((*z.shape[:-1], self.p), jnp.result_type(z, self.dtype))
        return lax.scan(visit, start, (self._blocks, self._split(z)))[0]

    def residual(self, offset: Observations, m: Coefficients) -> tuple[Observations, Coefficients]:
        def visit(total: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
            index, offset = block
            X = self._block(index)
            valid = index * self.rows + jnp.arange(self.rows) < self.n
            z = jnp.where(valid, offset - _times(X, m), 0)
            return total + jnp.matmul(z, X, precision=PRECISE), z

        start = jnp.zeros((*offset.shape[:-1], self.p), jnp.result_type(offset, m, self.dtype))
        total, z = lax.scan(visit, start, (self._blocks, self._split(offset)))
        return self._join(z), total

    @property
    def _blocks(self) -> Int[Array, " blocks"]:
        return jnp.arange(-(-self.n // self.rows))

    def _block(self, index: Int[Array, ""]) -> Float[Array, "rows p"]:
        return _rows(self.key, self.law, index * self.rows, self.rows, self.p, self.dtype)

    def _split(self, z: Observations) -> Float[Array, "blocks *batch rows"]:
        """Blocks of rows along a new leading axis, the last one filled up with zeros."""
        blocks = self._blocks.size
        padded = jnp.pad(z, [(0, 0)] * (z.ndim - 1) + [(0, blocks * self.rows - self.n)])
        return jnp.moveaxis(padded.reshape(*z.shape[:-1], blocks, self.rows), -2, 0)

    def _join(self, blocks: Float[Array, "blocks *batch rows"]) -> Observations:
        z = jnp.moveaxis(blocks, 0, -2)
        return z.reshape(*z.shape[:-2], -1)[..., : self.n]


def regenerated(
    key: Key[Array, ""], law: Law, n: int, p: int, *, rows: int = 16, dtype: DType = jnp.float32
) -> Regenerated:
    """`Regenerated`, checked. Raises InputError unless n, p and rows are at least 1."""
    _require_size(n, p)
    require(rows >= 1, f"rows must be at least 1, got {rows}")
    return Regenerated(key, law, n, p, rows, jnp.dtype(dtype))


# --- designs of given singular values ---------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=["left", "right", "order", "singular_values"], meta_fields=[])
@dataclass(frozen=True)
class Spectral(Design):
    """X = U S V^T, its singular vectors those of cosine transforms C with random signs: U^T = C_n diag(left), and V^T is `order` of
    the rows of C_p diag(right). Products cost O((n + p) log(n + p)) and nothing of size n p is made.

    The singular vectors stand in for uniformly random ones. Message passing with a correction for independent entries is
    described by state evolution where the singular values follow the law of such entries (`marchenko_pastur`; Dudeja, Sen, Lu,
    arXiv 2204.04281), and by other equations where they do not (`subsampled_orthogonal`).

    left, right: signs, shapes (n,) and (p,). order: r distinct indices below p, r = min(n, p). singular_values: shape (r,).
    """

    left: Leaf
    right: Leaf
    order: Leaf
    singular_values: Leaf

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.size, self.right.size

    def forward(self, m: Coefficients) -> Observations:
        components = self.singular_values * dct(self.right * m, norm="ortho")[..., self.order]
        missing = self.left.size - self.order.size
        padded = jnp.pad(components, [(0, 0)] * (m.ndim - 1) + [(0, missing)])
        return self.left * idct(padded, norm="ortho")

    def adjoint(self, z: Observations) -> Coefficients:
        components = self.singular_values * dct(self.left * z, norm="ortho")[..., : self.order.size]
        spread = jnp.zeros((*z.shape[:-1], self.right.size), components.dtype).at[..., self.order].set(components)
        return self.right * idct(spread, norm="ortho")


def subsampled_orthogonal(key: Key[Array, ""], n: int, p: int, dtype: DType = jnp.float32) -> Spectral:
    """Orthogonal rows of unit norm where n <= p, orthogonal columns of squared norm n/p where n >= p.

    Raises InputError unless n and p are at least 1.
    """
    _require_size(n, p)
    return _spectral(key, n, p, jnp.full(min(n, p), np.sqrt(n / min(n, p)), dtype))


def marchenko_pastur(key: Key[Array, ""], n: int, p: int, dtype: DType = jnp.float32) -> Spectral:
    """Singular values at the quantiles (k - 1/2)/r of their limit law for independent entries of variance 1/p at ratio n/p.

    Raises InputError unless n and p are at least 1.
    """
    _require_size(n, p)
    # Squares x = 1 + d - 2 sqrt(d) cos(t), d = n/p, have density proportional to sin^2(t)/x in t on (0, pi).
    r, cells = min(n, p), 100_000
    edges = np.linspace(0, np.pi, cells + 1)
    squares = lambda t: 1 + n / p - 2 * np.sqrt(n / p) * np.cos(t)
    middles = (edges[1:] + edges[:-1]) / 2
    cumulative = np.concatenate([[0], np.cumsum(np.sin(middles) ** 2 / squares(middles))])
    angles = np.interp((np.arange(r) + 0.5) / r, cumulative / cumulative[-1], edges)
    return _spectral(key, n, p, jnp.asarray(np.sqrt(squares(angles)), dtype))


def _spectral(key: Key[Array, ""], n: int, p: int, singular_values: Float[Array, " r"]) -> Spectral:
    of_left, of_right, of_order, of_values = random.split(key, 4)
    signs = lambda key, size: random.rademacher(key, (size,), singular_values.dtype)
    order = random.permutation(of_order, p)[: singular_values.size]
    # Shuffled: a smooth dependence on the frequency would make rows at either end longer or shorter than the others.
    singular_values = random.permutation(of_values, singular_values)
    return Spectral(signs(of_left, n), signs(of_right, p), order, singular_values)


# --- any other --------------------------------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=["of_m", "of_z"], meta_fields=["n", "p"])
@dataclass(frozen=True)
class LinearMaps(Design):
    """X given by two functions, m -> X m and z -> X^T z, that take leading batch axes as they come.

    of_m, of_z: `jax.tree_util.Partial` of a function and the arrays that it needs.
    """

    of_m: Leaf
    of_z: Leaf
    n: int
    p: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.p

    def forward(self, m: Coefficients) -> Observations:
        return self.of_m(m)

    def adjoint(self, z: Observations) -> Coefficients:
        return self.of_z(z)


# --- parts ------------------------------------------------------------------------------------------------------------


def _times(X: Float[Array, "n p"], m: Coefficients) -> Observations:
    """X m along the last axis.

    X is kept on the left and untransposed: on a CPU m X^T takes two to three times as long for a batch, ten times for a vector.
    """
    product = jnp.tensordot(X, m, axes=(1, m.ndim - 1), precision=PRECISE)
    # Without the barrier, compilers turn a product that is transposed afterwards into m X^T.
    return product if m.ndim == 1 else jnp.moveaxis(lax.optimization_barrier(product), 0, -1)


def _rows(
    key: Key[Array, ""], law: Law, start: Int[Array, ""] | int, count: int, p: int, dtype: jnp.dtype
) -> Float[Array, "count p"]:
    """Rows start ... start + count - 1: each has a key of its own, so that blocks of any size give the same matrix."""
    keys = jax.vmap(lambda row: random.fold_in(key, row))(start + jnp.arange(count))
    return jax.vmap(lambda k: law(k, (p,), dtype))(keys) / np.sqrt(p).astype(dtype)


def _require_size(n: int, p: int) -> None:
    require(n >= 1, f"number n of observations must be at least 1, got {n}")
    require(p >= 1, f"number p of coefficients must be at least 1, got {p}")
