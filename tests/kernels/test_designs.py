"""Designs against their own matrices, their laws against moments and singular values, large ones against the memory they need."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels.designs import (
    Dense,
    LinearMaps,
    gaussian,
    marchenko_pastur,
    rademacher,
    regenerated,
    sample,
    sparse_signs,
    student_t5,
    subsampled_orthogonal,
    uniform,
)

KEY = jax.random.key(3)
LAWS = [gaussian, rademacher, sparse_signs, uniform, student_t5]
entries = jax.jit(sample, static_argnums=(1, 2, 3, 4))
FAMILIES = {
    "dense": lambda key, n, p, dtype=jnp.float32: Dense(sample(key, gaussian, n, p, dtype)),
    "regenerated": lambda key, n, p, dtype=jnp.float32: regenerated(key, gaussian, n, p, dtype=dtype),
    "orthogonal": subsampled_orthogonal,
    "Marchenko-Pastur": marchenko_pastur,
}


SHAPES = [(100, 200), (200, 130)]


@cache
def build(family, n, p):
    return jax.jit(lambda key: FAMILIES[family](key, n, p))(KEY)


@jax.jit
def products(design, m, z):
    return design.forward(m), design.adjoint(z), *design.residual(z, m)


@cache
def matrix(family, n, p):
    return np.asarray(jax.jit(lambda design: design.forward(jnp.eye(p)).T)(build(family, n, p)), float)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("shape", "batch"), list(zip(SHAPES, [(), (3,)], strict=True)))
def test_products_are_those_of_one_matrix(family, shape, batch):
    n, p = shape
    design, X = build(family, n, p), matrix(family, n, p)
    assert design.shape == shape
    rng = np.random.default_rng(0)
    m, z = rng.normal(size=(*batch, p)), rng.normal(size=(*batch, n))
    expected = (m @ X.T, z @ X, z - m @ X.T, (z - m @ X.T) @ X)
    for found, value in zip(products(design, jnp.float32(m), jnp.float32(z)), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("law", "rows"), [*((law, 64) for law in LAWS), (rademacher, 1), (rademacher, 401)])
def test_the_regenerated_matrix_is_the_sampled_one(law, rows):
    """Entry by entry, whatever the number of rows in memory, the last block incomplete or not."""
    n, p = 400, 500
    X = jax.jit(lambda key: regenerated(key, law, n, p, rows=rows).forward(jnp.eye(p)).T)(KEY)
    np.testing.assert_allclose(X, entries(KEY, law, n, p, jnp.float32), rtol=1e-6)


# Moments of order four, with the standard errors of the three sample moments times sqrt(count).
@pytest.mark.parametrize(
    ("law", "fourth", "sixth", "eighth"),
    [(gaussian, 3, 15, 105), (rademacher, 1, 1, 1), (sparse_signs, 10, 100, 1000), (uniform, 9 / 5, 27 / 7, 9)],
)
def test_entries_have_mean_zero_variance_one_over_p_and_the_law(law, fourth, sixth, eighth):
    n, p = 400, 500
    x = np.asarray(entries(KEY, law, n, p, jnp.float32), float).ravel() * np.sqrt(p)
    errors = np.sqrt(np.array([1, fourth - 1, eighth - fourth**2]) / x.size) + 1e-6
    found = np.array([x.mean(), (x**2).mean() - 1, (x**4).mean() - fourth])
    assert np.all(np.abs(found) < 4 * errors)  # three z-scores: false alarm 2e-4


def test_student_entries_have_five_degrees_of_freedom():
    """Quantiles of t_5 scaled by sqrt(3/5), within four standard errors; its eighth moment is infinite."""
    from scipy.stats import t

    x = np.asarray(entries(KEY, student_t5, 400, 500, jnp.float32)).ravel() * np.sqrt(500 / (3 / 5))
    for level in (0.001, 0.05, 0.5, 0.9, 0.999):
        assert abs(np.mean(x < t(5).ppf(level)) - level) < 4 * np.sqrt(level * (1 - level) / x.size)


def test_student_entries_have_no_outliers_of_rounding():
    """Of 1.6e7 entries, none beyond a quantile that one in 1e12 exceeds."""
    from scipy.stats import t

    largest = jax.jit(lambda key: jnp.abs(sample(key, student_t5, 4000, 4000)).max())(KEY)
    assert float(largest) * np.sqrt(4000 / (3 / 5)) < t(5).isf(1e-12)


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_singular_values(n, p):
    orthogonal = np.linalg.svd(matrix("orthogonal", n, p), compute_uv=False)
    np.testing.assert_allclose(orthogonal, np.sqrt(n / min(n, p)), rtol=1e-5)
    X = matrix("Marchenko-Pastur", n, p)
    found = np.linalg.svd(X, compute_uv=False)
    np.testing.assert_allclose((found**2).sum(), n, rtol=2e-3)  # the limit law has mean n/r exactly
    # Eigenvalues are rigid: those of a Gaussian matrix lie within a few per cent of the limit's quantiles.
    gauss = np.linalg.svd(np.random.default_rng(0).normal(size=(n, p)) / np.sqrt(p), compute_uv=False)
    np.testing.assert_allclose(found, gauss, atol=0.06)
    # Rows and columns have the lengths of those of independent entries, sd sqrt(2/p) and sqrt(2 n)/p, up to six of them.
    np.testing.assert_allclose((X**2).sum(1), 1, atol=6 * np.sqrt(2 / p))
    np.testing.assert_allclose((X**2).sum(0), n / p, atol=6 * np.sqrt(2 * n) / p)


@pytest.mark.parametrize("family", ["regenerated", "Marchenko-Pastur"])
def test_large_designs_need_little_memory(family):
    """p = 10^5, n = 5 10^4: 20 GB in memory. Compiled, not run; a block of 16 rows is 6.4 MB, a vector 0.4 MB."""
    n, p = 50_000, 100_000
    visit = jax.jit(lambda key, m, z: FAMILIES[family](key, n, p).residual(z, m))
    analysis = visit.lower(KEY, jnp.zeros(p), jnp.zeros(n)).compile().memory_analysis()
    assert analysis.temp_size_in_bytes + analysis.argument_size_in_bytes < 40e6


def test_batches_of_designs():
    """Under vmap, each design with vectors of its own."""
    (n, p), rng = SHAPES[0], np.random.default_rng(0)
    designs = [build("orthogonal", n, p), build("Marchenko-Pastur", n, p)]
    m, z = rng.normal(size=(2, p)).astype(np.float32), rng.normal(size=(2, n)).astype(np.float32)
    together = jax.jit(jax.vmap(products))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *designs), m, z)
    for i, design in enumerate(designs):
        for a, b in zip(together, products(design, m[i], z[i]), strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_dtypes(family):
    """Single and double precision side by side, under 64 bits."""
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            one = lambda key, m, z, dtype=dtype: products(FAMILIES[family](key, 6, 8, dtype), m, z)
            shapes = jax.eval_shape(one, KEY, jnp.ones(8, dtype), jnp.ones(6, dtype))
            assert {x.dtype for x in shapes} == {jnp.dtype(dtype)}


def test_any_pair_of_linear_maps():
    """A circulant design by fast Fourier transforms, its kernel a leaf."""
    p = 12
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=p), jnp.float32)
    convolve = lambda spectrum, m: jnp.fft.irfft(spectrum * jnp.fft.rfft(m), n=p)
    spectrum = jnp.fft.rfft(kernel)
    partial = jax.tree_util.Partial
    design = LinearMaps(partial(convolve, spectrum), partial(convolve, jnp.conj(spectrum)), p, p)
    X = np.array([[kernel[(i - j) % p] for j in range(p)] for i in range(p)])
    m, z = np.random.default_rng(1).normal(size=(2, 4, p))
    forward, adjoint, _, correlation = products(design, jnp.float32(m), jnp.float32(z))
    np.testing.assert_allclose(forward, m @ X.T, atol=1e-5)
    np.testing.assert_allclose(adjoint, z @ X, atol=1e-5)
    np.testing.assert_allclose(correlation, (z - m @ X.T) @ X, atol=1e-4)


def test_bad_input_is_refused():
    for make in (
        lambda n, p: sample(KEY, gaussian, n, p),
        lambda n, p: regenerated(KEY, gaussian, n, p),
        lambda n, p: marchenko_pastur(KEY, n, p),
        lambda n, p: subsampled_orthogonal(KEY, n, p),
    ):
        with pytest.raises(InputError, match="n of observations must be at least 1, got 0"):
            make(0, 3)
        with pytest.raises(InputError, match="p of coefficients must be at least 1, got -1"):
            make(3, -1)
    with pytest.raises(InputError, match="rows must be at least 1, got 0"):
        regenerated(KEY, gaussian, 3, 3, rows=0)


def test_more_entries_than_counters_are_refused():
    """2^32 and more would repeat."""
    with pytest.raises(InputError, match=r"fewer than 2\^32, got 4294967296"):
        jax.eval_shape(lambda key: gaussian(key, (2**16, 2**16), jnp.dtype("float32")), KEY)
