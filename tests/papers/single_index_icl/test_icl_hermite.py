"""Hermite coefficients, links and the zonal expansion against quadrature, averages over the sphere and known values."""

import itertools
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import eval_chebyt, eval_gegenbauer, eval_hermitenorm, roots_jacobi
from scipy.stats import norm

from theorysim.errors import InputError
from theorysim.papers.single_index_icl.theory import hermite, links, zonal
from theorysim.papers.single_index_icl.theory.links import HE2, HE3, HE4, MIX, polynomial

CORRELATED = polynomial([0, 0, 1, 0, np.sqrt(12)])
FULL = links.ellipsoid(np.array([[1.0, 0.3, -0.5], [0.3, 2.0, 0.4], [-0.5, 0.4, 9.0]]), 1)


def shown(reference, value):
    """The reference, printed to so many decimals, is the value rounded."""
    decimals = len(reference.partition(".")[2])
    return abs(float(reference) - value) <= 0.51 * 10.0**-decimals


def gaussian_mean(function, kink):
    pieces = [(-14, kink), (kink, 14)]
    return sum(quad(lambda z: function(z) * norm.pdf(z), *ends, epsabs=1e-12, limit=200)[0] for ends in pieces)


# --- coefficients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [-1.3, 0.0, 0.5, 1.0])
def test_activations_against_quadrature(bias):
    table = {
        hermite.relu_coefficients: lambda h: max(h, 0.0),
        hermite.step_coefficients: lambda h: float(h > 0),
        hermite.squared_relu_coefficients: lambda h: max(h, 0.0) ** 2,
    }
    for coefficients, activation in table.items():
        values = coefficients(8, bias)
        for k in range(9):
            expected = gaussian_mean(lambda z, k=k: activation(z + bias) * eval_hermitenorm(k, z), -bias)  # noqa: B023
            assert values[k] == pytest.approx(expected, abs=1e-9)
        for degree in range(3):
            np.testing.assert_array_equal(coefficients(degree, bias), values[: degree + 1])
    grid = np.array([[bias, 0.2], [0.0, -2.0]])
    assert hermite.relu_coefficients(4, grid).shape == (5, 2, 2)
    np.testing.assert_allclose(
        hermite.relu_coefficients(4, grid)[:, 0, 0], hermite.relu_coefficients(4, bias), rtol=1e-14
    )


def test_reference_coefficients():
    zero = [".39894228", ".5", ".39894228", "0", "-.39894228", "0", "1.19682684"]
    half = [".69779656", ".69146246", ".35206533", "-.17603266", "-.264049", ".48408982", ".55010207"]
    assert all(map(shown, zero, hermite.relu_coefficients(6, 0.0)))
    assert all(map(shown, half, hermite.relu_coefficients(6, 0.5)))


def test_coefficients_of_functions():
    c, square = hermite.hermite_coefficients(lambda z: np.exp(z), 8)
    np.testing.assert_allclose(c, np.exp(0.5), rtol=1e-9)
    assert square == pytest.approx(np.exp(2), rel=1e-10)
    # A kink that is at no special place, and a jump.
    c, _ = hermite.hermite_coefficients(lambda z: max(z - 0.317, 0.0), 8)
    np.testing.assert_allclose(c, hermite.relu_coefficients(8, -0.317), rtol=1e-9, atol=1e-10)
    c, square = hermite.hermite_coefficients(lambda z: float(z > -0.7), 8)
    np.testing.assert_allclose(c, hermite.step_coefficients(8, 0.7), rtol=1e-9, atol=1e-9)
    assert square == pytest.approx(norm.cdf(0.7), rel=1e-10)


@pytest.mark.parametrize(
    ("g", "Q"),
    [
        (np.sin, 1),
        (np.cos, 2),
        (lambda z: z**3 - 3 * z, 3),
        (lambda z: z**4 - 6 * z**2 + 3 + 1e-3 * z**3 - 3e-3 * z, 3),
        (lambda z: 5.0 + z**4 - 6 * z**2, 4),
        (lambda z: z**2 * np.exp(-(z**2)), 4),
        (abs, 2),
    ],
)
def test_information_exponent(g, Q):
    """z^2 exp(-z^2) has c_2 = 0: the classical example of a generative exponent of 2 behind an information exponent of 4."""
    assert hermite.information_exponent(g) == Q


@given(st.integers(0, 5), st.integers(0, 5), st.floats(-1, 1))
def test_correlation_rule(j, k, overlap):
    z, w = np.polynomial.hermite_e.hermegauss(12)
    w = np.outer(w, w) / w.sum() ** 2
    other = overlap * z[:, None] + np.sqrt(1 - overlap**2) * z
    product = hermite.hermite_polynomials(5, z)[j][:, None] * hermite.hermite_polynomials(5, other)[k]
    expected = factorial(k) * overlap**k if j == k else 0.0
    assert (w * product).sum() == pytest.approx(expected, abs=1e-9)


# --- links ------------------------------------------------------------------------------------------------------------


def test_links():
    assert (HE2.information_exponent, HE2.degree, MIX.information_exponent, MIX.degree) == (2, 2, 2, 4)
    for link in (HE2, HE3, HE4, MIX, CORRELATED):
        z, w = np.polynomial.hermite_e.hermegauss(20)
        power = np.array(link.weights) @ link(z) ** 2 @ w / w.sum()
        assert link.variance == pytest.approx(power, rel=1e-12)
    np.testing.assert_allclose(MIX.moments, np.diag([0, 0, 2 / 3, 2, 8]), atol=1e-13)
    assert CORRELATED.moments[2, 4] == pytest.approx(np.sqrt(12))
    np.testing.assert_allclose(HE3(1.7), [(1.7**3 - 3 * 1.7) / np.sqrt(6)])


@pytest.mark.parametrize("n", range(1, 7))
def test_ellipsoid_has_the_moments_of_the_sphere_up_to_the_fifth(n):
    generator = np.random.default_rng(n)
    factor = generator.normal(size=(n, n))
    link = links.ellipsoid(factor @ factor.T, 3)
    np.testing.assert_allclose(link.moments[3:, 3:], factor @ factor.T, atol=1e-9)
    w, c = np.array(link.weights), np.array(link.coefficients)[:, 3:]
    values, vectors = np.linalg.eigh(factor @ factor.T)
    u = c @ vectors / np.sqrt(values * n)
    fourth = np.einsum("a,ai,aj,ak,al->ijkl", w, u, u, u, u)
    eye = np.eye(n)
    pairs = sum(np.einsum(f"{a},{b}->ijkl", eye, eye) for a, b in [("ij", "kl"), ("ik", "jl"), ("il", "jk")])
    np.testing.assert_allclose(fourth, pairs / (n * (n + 2)), atol=1e-9)
    np.testing.assert_allclose(np.einsum("a,ai,aj,ak->ijk", w, u, u, u), 0, atol=1e-9)


def test_degree_that_never_occurs_is_no_degree():
    link = links.ellipsoid(np.array([[0.0, 0.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 3.0]]), 2)
    assert (link.information_exponent, link.degree) == (3, 4)


def test_link_from_function():
    link = links.from_function(lambda z: (z**4 - 6 * z**2 + 3) / 7 + z)
    np.testing.assert_allclose(link.coefficients[0], [0, 1, 0, 0, 24 / 7], atol=1e-12)
    relu = links.from_function(lambda z: max(z, 0.0) - norm.pdf(0), 6)
    np.testing.assert_allclose(relu.coefficients[0][1:], hermite.relu_coefficients(6, 0.0)[1:], atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: links.from_function(lambda z: 1.0), "link must not be constant"),
        (lambda: polynomial([0.0, 0.0]), "link must not be constant"),
        (lambda: hermite.information_exponent(lambda z: 3.0), "link must not be constant"),
        (lambda: links.from_function(lambda z: z * z), "subtract the mean c_0 = 1"),
        (lambda: links.from_function(np.tanh), "is above degree 30; give degree"),
        (lambda: links.from_function(lambda z: np.exp(z * z) - 1, 4), "finite E g"),
        (lambda: links.from_function(lambda z: np.inf if z > 3 else z), "must be finite everywhere, got inf at z = "),
        (lambda: links.band(4, 2), r"Q must lie in \[1, P = 2\], got 4"),
        (lambda: links.ellipsoid(np.array([[1.0, 2.0], [2.0, 1.0]]), 2), "positive semi-definite, got eigenvalue -1"),
        (lambda: links.ellipsoid(np.eye(2), 0), "at least 1, got 0"),
        (lambda: links.Link(((0.0, 1.0),), (0.4,)), "sum to 1"),
        (lambda: links.Link(((0.0, 1.0), (0.0,)), (0.5, 0.5)), "equally many"),
        (lambda: polynomial([0.0, np.nan]), "finite"),
        (lambda: zonal.zonal_eigenvalue(3, 2, 4), "degree l must be one of k, k - 2"),
        (lambda: zonal.label_second_moment(1.0, HE2, 2, -0.1), "label noise tau must be >= 0 and finite, got -0.1"),
        (lambda: zonal.multiplicity(2, 0), "dimension r must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


# --- zonal expansion --------------------------------------------------------------------------------------------------


def expansion(k, r, rho, u, eigenvalue=zonal.zonal_eigenvalue, radial=zonal.radial_function):
    terms = [
        np.sqrt(eigenvalue(k, degree, r))
        * zonal.multiplicity(degree, r)
        * radial(k, degree, r, rho)
        * zonal.gegenbauer(degree, r, u)
        for degree in range(k % 2, k + 1, 2)
    ]
    return np.sqrt(factorial(k)) * np.array(terms)


@given(st.integers(2, 40), st.integers(1, 8), st.floats(0, 6), st.floats(-1, 1))
def test_zonal_expansion(r, k, rho, u):
    terms = expansion(k, r, rho, u)
    scale = max(np.abs(terms).max(), 1.0)
    assert terms.sum() == pytest.approx(eval_hermitenorm(k, rho * u), abs=1e-9 * scale, rel=1e-9)


@pytest.mark.parametrize("k", [2, 3, 4, 7])
@pytest.mark.parametrize("r", [2, 5])
def test_zonal_expansion_has_no_slack(r, k):
    """Without the sign of R, or with r + 2l + 2i in lambda, it is wrong."""

    def unsigned(k, degree, r, rho):
        return (-1) ** ((k - degree) // 2) * zonal.radial_function(k, degree, r, rho)

    def shifted(k, degree, r):
        j = range(1, (k - degree) // 2 + 1)
        return zonal.zonal_eigenvalue(k, degree, r) * np.prod(
            [(r + 2 * degree + 2 * i - 2) / (r + 2 * degree + 2 * i) for i in j]
        )

    truth = eval_hermitenorm(k, 1.3 * 0.4)
    assert expansion(k, r, 1.3, 0.4).sum() == pytest.approx(truth, rel=1e-12)
    assert abs(expansion(k, r, 1.3, 0.4, radial=unsigned).sum() - truth) > 0.01
    assert abs(expansion(k, r, 1.3, 0.4, eigenvalue=shifted).sum() - truth) > 0.01


@given(st.integers(1, 12), st.integers(1, 64))
def test_zonal_eigenvalues_sum_to_one(k, r):
    total = sum(zonal.multiplicity(d, r) * zonal.zonal_eigenvalue(k, d, r) for d in range(k % 2, k + 1, 2))
    assert total == pytest.approx(1, rel=1e-12)


def test_reference_zonal_eigenvalues():
    table = {
        2: {
            (2, 0): ".5",
            (2, 2): ".25",
            (3, 1): ".375",
            (3, 3): ".125",
            (4, 0): ".375",
            (4, 2): ".25",
            (4, 4): ".0625",
        },
        8: {(2, 0): ".125", (2, 2): ".025", (3, 1): ".0375", (3, 3): ".00625", (4, 0): ".0375", (4, 2): ".0125"},
    }
    for r, values in table.items():
        assert all(shown(value, zonal.zonal_eigenvalue(*index, r)) for index, value in values.items())
    assert shown(".00178571", zonal.zonal_eigenvalue(4, 4, 8))


def test_multiplicities():
    assert [zonal.multiplicity(d, 1) for d in range(5)] == [1, 1, 0, 0, 0]
    assert [zonal.multiplicity(d, 2) for d in range(5)] == [1, 2, 2, 2, 2]
    assert [zonal.multiplicity(d, 3) for d in range(5)] == [1, 3, 5, 7, 9]
    # Homogeneous polynomials of degree 4 in 6 variables are harmonics of degrees 4, 2 and 0.
    assert sum(zonal.multiplicity(d, 6) for d in (0, 2, 4)) == 126


@pytest.mark.parametrize("r", [1, 2, 3, 9])
def test_radial_functions_are_orthonormal(r):
    rho = np.linspace(0, 15, 20001)
    density = rho ** (r - 1) * np.exp(-(rho**2) / 2)
    for degree in (0, 1, 2):
        values = np.stack([zonal.radial_function(k, degree, r, rho) for k in range(degree, degree + 7, 2)])
        gram = np.trapezoid(values[:, None] * values * density, rho) / np.trapezoid(density, rho)
        np.testing.assert_allclose(gram, np.eye(4), atol=1e-6)


@given(st.integers(0, 9), st.floats(-1, 1))
def test_gegenbauer(degree, u):
    assert zonal.gegenbauer(degree, 2, u) == pytest.approx(eval_chebyt(degree, u), abs=1e-12)
    for r in (3, 4, 17):
        expected = eval_gegenbauer(degree, r / 2 - 1, u) / eval_gegenbauer(degree, r / 2 - 1, 1.0)
        assert zonal.gegenbauer(degree, r, u) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 20, 600])
def test_sphere_moments_and_nodes(r):
    u, w = zonal.sphere_nodes(r, 7)
    for order in range(14):
        assert w @ u**order == pytest.approx(zonal.sphere_moment(order, r), rel=1e-11, abs=1e-15)
    if 2 <= r <= 20:
        nodes, weights = roots_jacobi(7, (r - 3) / 2, (r - 3) / 2)
        np.testing.assert_allclose(u, nodes, atol=1e-12)
        np.testing.assert_allclose(w, weights / weights.sum(), rtol=1e-10)


def sphere(r):
    """Points and weights on S^{r-1}, exact for polynomials of degree 10; r <= 3."""
    if r == 1:
        return np.array([[1.0], [-1.0]]), np.full(2, 0.5)
    angle = 2 * np.pi * np.arange(12) / 12
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    if r == 2:
        return circle, np.full(12, 1 / 12)
    height, weight = np.polynomial.legendre.leggauss(8)
    points = [np.append(np.sqrt(1 - h**2) * c, h) for h, c in itertools.product(height, circle)]
    return np.array(points), np.repeat(weight / 2, 12) / 12


@pytest.mark.parametrize("link", [HE2, HE3, MIX, CORRELATED, FULL], ids=["he2", "he3", "mix", "correlated", "full"])
@pytest.mark.parametrize("r", [1, 2, 3])
def test_prior_kernel_is_the_average_over_directions_and_links(r, link):
    generator = np.random.default_rng(r)
    x, other = generator.normal(size=(5, r)), generator.normal(size=(4, r))
    x[0] = 0.0
    beta, weight = sphere(r)
    expected = np.einsum("a,b,abi,abj->ij", link.weights, weight, link(beta @ x.T), link(beta @ other.T))
    np.testing.assert_allclose(zonal.prior_kernel(x, other, link), expected, atol=1e-11 * np.abs(expected).max())
    powers = np.einsum("a,b,abi->i", link.weights, weight, link(beta @ x.T) ** 2)
    np.testing.assert_allclose(zonal.signal_power(np.linalg.norm(x, axis=1), link, r), powers, rtol=1e-11)


def test_prior_kernel_of_degree_two():
    r, generator = 7, np.random.default_rng(0)
    x, other = generator.normal(size=(5, r)), generator.normal(size=(6, r))
    a, b = np.square(x).sum(1)[:, None], np.square(other).sum(1)
    expected = ((a * b + 2 * (x @ other.T) ** 2) / (r * (r + 2)) - (a + b) / r + 1) / 2
    np.testing.assert_allclose(zonal.prior_kernel(x, other, HE2), expected, atol=1e-12)


@given(st.integers(2, 30), st.floats(0, 8), st.floats(0, 1))
def test_label_second_moment(r, rho, tau):
    for link in (MIX, CORRELATED):
        u, w = roots_jacobi(12, (r - 3) / 2, (r - 3) / 2)
        expected = tau**2 + np.array(link.weights) @ link(rho * u) ** 2 @ w / w.sum()
        assert zonal.label_second_moment(rho, link, r, tau) == pytest.approx(expected, rel=1e-9, abs=1e-12)
