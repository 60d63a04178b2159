"""Stage I: closed forms against truncated-moment quadrature, Monte Carlo in full dimension and known values."""

from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from theorysim.errors import InputError
from theorysim.papers.single_index_icl.theory import links
from theorysim.papers.single_index_icl.theory.hermite import relu_coefficients
from theorysim.papers.single_index_icl.theory.links import HE2, HE3, HE4, MIX, polynomial
from theorysim.papers.single_index_icl.theory.stage_one import (
    Prompts,
    alignment,
    conditional_moments,
    critical_tasks,
    population_gradient,
    rate_limits,
    second_moments,
    uniform_neurons,
    visible_exponent,
)

CORRELATED = polynomial([0, 0, 1, 0.5, np.sqrt(12)])
INFINITE = float("inf")


def shown(reference, value):
    """The reference, printed to so many decimals, is the value rounded."""
    decimals = len(reference.partition(".")[2])
    return abs(float(reference) - value) <= 0.51 * 10.0**-decimals


def truncated_moments(link, d, r, tau, s, rho, bias):
    """S1, S2, T, T_inside, U, m, D by Gauss-Hermite in z = <beta, x>, the rest of h in closed form; vectors in (beta, e).

    e is the direction of w orthogonal to beta, Pi e of squared length kap2. One array of atoms for each.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / weight.sum()
    t = np.sqrt(1 - s**2)
    h0 = bias + s * z
    x0 = -h0 / t
    I0, I1 = norm.cdf(-x0), norm.pdf(x0)
    I2 = I0 + x0 * I1
    y = link(z)
    square = weight * (tau**2 + y**2)
    kap2 = (rho**2 - s**2) / t**2
    S1 = square @ I0
    rest = square @ (z**2 * I0)
    U = np.stack([square @ (z * (h0 * I0 + t * I1)), square @ (h0 * I1 + t * I2)])
    D = np.stack([(weight * y) @ (z * I0), (weight * y) @ I1])
    return {
        "S1": S1,
        "S2": square @ (h0**2 * I0 + 2 * h0 * t * I1 + t**2 * I2),
        "T": rest + square @ I2 + (d - 2) * S1,
        "T_inside": rest + kap2 * (square @ I2) + (1 - kap2) * S1 + (r - 2) * S1,
        "U": U,
        "m": (weight * y) @ (h0 * I0 + t * I1),
        "D": D,
        "kap2": kap2,
    }


@pytest.mark.parametrize("link", [HE2, HE3, HE4, MIX, CORRELATED], ids=["he2", "he3", "he4", "mix", "correlated"])
@settings(max_examples=12)
@given(st.floats(0, 0.9), st.floats(-1, 1), st.floats(-1.5, 1.5), st.floats(0, 1))
def test_conditional_moments(link, rho, cosine, bias, tau):
    d, r, s = 9, 3, rho * cosine
    found, expected = (
        conditional_moments(link, d, r, tau, s, rho, bias),
        truncated_moments(link, d, r, tau, s, rho, bias),
    )
    t = np.sqrt(1 - s**2)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)
    for name in ("S1", "S2", "T", "T_inside", "m"):
        close(getattr(found, name), expected[name])
    for vector in "UD":
        along_beta, along_w = getattr(found, f"{vector}_beta"), getattr(found, f"{vector}_w")
        close(along_beta + s * along_w, expected[vector][0])
        close(t * along_w, expected[vector][1])


@pytest.mark.parametrize("link", [HE3, HE4, CORRELATED], ids=["he3", "he4", "correlated"])
def test_conditional_moments_by_importance_sampling(link):
    """In full dimension, z = <beta, x> drawn from N(0, 4): plain samples of these heavy tails sit below the mean."""
    d, r, tau, bias, samples = 5, 2, 0.3, 0.4, 150_000
    generator = np.random.default_rng(3)
    beta = np.array([0.6, 0.8, 0, 0, 0])
    w = np.array([0.5, 0.1, 0.5, -0.3, 0.2])
    w /= np.linalg.norm(w)
    s, rho = beta @ w, np.linalg.norm(w[:r])
    x = generator.normal(size=(samples, d))
    x += np.outer(x @ beta, beta)
    weight = 2 * np.exp(-3 / 8 * (x @ beta) ** 2)
    f, h = link(x @ beta)[0], x @ w + bias
    on, square, relu = h > 0, (f**2 + tau**2) * weight, np.maximum(h, 0)
    found = conditional_moments(link, d, r, tau, s, rho, bias)
    statistics = {
        "S1": square * on,
        "S2": square * relu**2,
        "T": square * on * (x**2).sum(1),
        "T_inside": square * on * (x[:, :r] ** 2).sum(1),
        "m": weight * f * relu,
    }
    expected = {name: getattr(found, name)[0] for name in statistics}
    U, D = (b[0] * beta + a[0] * w for b, a in ((found.U_beta, found.U_w), (found.D_beta, found.D_w)))
    for i in range(d):
        statistics |= {f"U{i}": square * relu * x[:, i], f"D{i}": weight * f * on * x[:, i]}
        expected |= {f"U{i}": U[i], f"D{i}": D[i]}
    for name, values in statistics.items():
        assert abs(values.mean() - expected[name]) < 4 * values.std() / np.sqrt(samples), name


@pytest.mark.parametrize("link", [HE2, HE3, HE4, MIX, CORRELATED], ids=["he2", "he3", "he4", "mix", "correlated"])
@pytest.mark.parametrize("bias", [0.0, 0.5, -1.0])
def test_gradient_moments_are_averages_over_directions(link, bias):
    """r = 2: E g = 2 E[m D] and E|g_t|^2 by the trapezoidal rule over the circle of beta, vectors in coordinates."""
    d, r, tau, N1, rho = 6, 2, 0.3, 5, 0.55
    w = np.zeros(d)
    w[0], w[2] = rho, np.sqrt(1 - rho**2)
    mean, full, inside, orthogonal = np.zeros(d), 0.0, 0.0, 0.0
    angles = 2 * np.pi * np.arange(24) / 24
    for angle in angles:
        beta = np.zeros(d)
        beta[:2] = np.cos(angle), np.sin(angle)
        s = beta @ w
        e = (w - s * beta) / np.sqrt(1 - s**2)
        given = truncated_moments(link, d, r, tau, s, rho, bias)
        U, D = (np.outer(v[0], beta) + np.outer(v[1], e) for v in (given["U"], given["D"]))
        m, S1, S2 = given["m"], given["S1"], given["S2"]
        average = lambda value: np.tensordot(link.weights, value, axes=1) / len(angles)

        def moment(T, U, D):
            dot = lambda x, y: np.sum(x * y, 1)
            pairs = S2 * dot(D, D) + T * m**2 + 2 * m * dot(U, D)  # noqa: B023
            return average(2 / N1 * (S2 * T + dot(U, U)) + (1 - 1 / N1) * pairs)  # noqa: B023

        mean += average(2 * m[:, None] * D)
        full += moment(given["T"], U, D)
        inside += moment(given["T_inside"], U[:, :r], D[:, :r])
        orthogonal += average(2 * S1 * S2 / N1 + (1 - 1 / N1) * S1 * m**2)
    gradient = population_gradient(link, r, rho, bias)
    projected = np.where(np.arange(d) < r, w, 0)
    np.testing.assert_allclose(2 * (gradient.A * projected + gradient.B * w), mean, atol=1e-9)
    assert gradient.squared_norm == pytest.approx(mean @ mean, rel=1e-7, abs=1e-12)
    assert gradient.squared_norm_inside == pytest.approx(mean[:r] @ mean[:r], rel=1e-7, abs=1e-12)
    np.testing.assert_allclose(
        second_moments(Prompts(link, d, r, N1, tau), rho, bias), (full, inside, orthogonal), rtol=1e-6
    )


def test_single_prompts():
    """One prompt at a time, he2: second moment, in S and orthogonal, and mean, 1/N1 in place of 2/N1 being far off.

    <beta, x> of every example is drawn from N(0, 9/4), because the second moment is the mean of a polynomial of degree 12.
    """
    d, r, N1, tau, prompts, bias = 5, 2, 2, 0.3, 120_000, 0.3
    generator = np.random.default_rng(11)
    w = generator.normal(size=(4, d))
    w /= np.linalg.norm(w, axis=1)[:, None]
    rho = np.linalg.norm(w[:, :r], axis=1)
    angle = generator.uniform(0, 2 * np.pi, (prompts, 1))
    x = generator.normal(size=(prompts, N1 + 1, d))
    cos, sin = np.cos(angle), np.sin(angle)
    z = 1.5 * (x[..., 0] * cos + x[..., 1] * sin)
    x[..., 0] += z / 3 * cos
    x[..., 1] += z / 3 * sin
    weight = np.prod(1.5 * np.exp(-(z**2) / 2 * (1 - 4 / 9)), axis=1)
    y = (z**2 - 1) / np.sqrt(2) + tau * generator.choice([-1, 1], z.shape)
    statistics = []
    for neuron in w:
        h = x @ neuron + bias
        relu, on = np.maximum(h, 0), h > 0
        p = np.mean((y * relu)[:, :-1], 1)
        q = np.mean((y * on)[:, :-1, None] * x[:, :-1], 1)
        g = y[:, -1:] * (relu[:, -1:] * q + (on[:, -1] * p)[:, None] * x[:, -1])
        outside = np.linalg.svd(np.vstack([np.eye(d)[:r], neuron]))[2][r + 1 :]
        statistics.append([(g**2).sum(1), (g[:, :r] ** 2).sum(1), np.mean((g @ outside.T) ** 2, 1), g @ neuron])
    samples = np.mean(statistics, 0) * weight
    moments, gradient = second_moments(Prompts(HE2, d, r, N1, tau), rho, bias), population_gradient(HE2, r, rho, bias)
    along = 2 * (gradient.A * rho**2 + gradient.B)
    expected = [np.mean(value) for value in (*moments, along)]
    error = samples.std(1) / np.sqrt(prompts)
    assert np.all(np.abs(samples.mean(1) - expected) < 4 * error)
    assert np.all(error[:3] < 0.03 * np.array(expected[:3]))


# --- known values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "d", "r", "bias", "A", "B"),
    [
        (HE2, 16, 2, 0.0, ".00746039", "-.00046627"),
        (HE2, 16, 2, 0.5, ".00581016", "-.00027235"),
        (HE2, 16, 2, 1.0, ".00274452", "0"),
        (HE2, 64, 4, 0.0, ".0012434", "-.00003886"),
        (MIX, 16, 2, 0.5, ".00196400", "-.00009381"),
    ],
)
def test_reference_population_gradients(link, d, r, bias, A, B):
    gradient = population_gradient(link, r, np.sqrt(r / d), bias)
    assert shown(A, gradient.A)
    assert shown(B, gradient.B)


def test_reference_mean_over_neurons():
    """2(A + B), weighted by rho^4, and 2B of he2 at b = 0; for 48 neurons of one draw, hence to some per cent only."""
    for d, full, along in ((16, 0.0278, -0.00173), (8, 0.0406, -0.00512)):
        rho, weight = uniform_neurons(d, 2)
        gradient = population_gradient(HE2, 2, rho)
        strong = np.average(2 * (gradient.A + gradient.B), weights=weight * rho**4)
        assert strong == pytest.approx(full, rel=0.15)
        assert np.average(2 * gradient.B, weights=weight) == pytest.approx(along, rel=0.25)


def test_reference_second_moments():
    moments = second_moments(Prompts(HE2, 16, 2, 64, 0.3), np.sqrt(1 / 8))
    assert all(map(shown, (".26801128", ".09676950", ".0116611"), moments))
    moments = second_moments(Prompts(HE3, 16, 2, 64, 0.3), np.sqrt(1 / 8), 1.0)
    assert all(map(shown, ("1.47494863", ".54531666"), moments))


def test_reference_critical_tasks():
    table = {
        64: {8: "391.9", 12: "1904.9", 16: "5866.4", 24: "28848.9", 32: "89769"},
        1024: {8: "50.2", 16: "486.5", 32: "6124"},
        16: {8: "1485", 16: "23082", 32: "357434"},
    }
    for N1, values in table.items():
        assert all(shown(value, critical_tasks(Prompts(HE2, d, 2, N1, 0.3))) for d, value in values.items())


@pytest.mark.parametrize(
    ("r", "N1", "slope"), [(2, 16, "3.991"), (2, INFINITE, "2.0114"), (4, 16, "4.003"), (4, INFINITE, "2.0231")]
)
def test_reference_slopes(r, N1, slope):
    tasks = [critical_tasks(Prompts(HE2, d, r, N1, 0.3)) for d in (128, 256)]
    assert shown(slope, np.log2(tasks[1] / tasks[0]))


def test_reference_alignments():
    def over_sphere(d, N1, T1, r=2, bias=0.0):
        rho, weight = uniform_neurons(d, r)
        return alignment(Prompts(HE2, d, r, N1, 0.3), T1, rho, bias, weight)

    for d, T1, value in [(8, 392, ".7334"), (12, 1905, ".7189"), (16, 5866, ".7303"), (24, 28849, ".7569")]:
        assert shown(value, over_sphere(d, 64, T1))
    assert shown(".679", over_sphere(16, 64, 4000))
    for d, value in [(8, ".9062"), (16, ".9271"), (32, ".9531"), (64, ".9731")]:
        assert over_sphere(d, 64, INFINITE) == pytest.approx(float(value), abs=6e-5)
        assert over_sphere(d, 64, INFINITE, bias=1.0) == pytest.approx(1, abs=1e-14)
    assert shown(".423", over_sphere(24, 64, 3528))
    assert shown(".540", over_sphere(24, 64, 7620))
    # These averaged over the neurons of one draw, 32 to 64 of them.
    finite = [
        (8, 64, 400, 0.734),
        (8, 64, 1600, 0.827),
        (8, 64, 6400, 0.881),
        (16, 64, 1600, 0.555),
        (16, 8, 500, 0.335),
    ]
    for d, N1, T1, value in finite:
        assert over_sphere(d, N1, T1) == pytest.approx(value, abs=0.02)
    assert over_sphere(32, 64, 4000, r=4, bias=0.5) == pytest.approx(0.242, abs=0.015)


def test_alignment_is_the_ratio_of_sums_over_neurons():
    prompts, rho, bias, T1 = Prompts(MIX, 12, 3, 40, 0.2), np.array([0.2, 0.5, 0.7]), np.array([0.0, -0.4, 1.1]), 700
    gradient, moments = population_gradient(MIX, 3, rho, bias), second_moments(prompts, rho, bias)
    inside = gradient.squared_norm_inside + (moments.inside - gradient.squared_norm_inside) / T1
    full = gradient.squared_norm + (moments.full - gradient.squared_norm) / T1
    assert alignment(prompts, T1, rho, bias) == pytest.approx(inside.sum() / full.sum(), rel=1e-13)
    both = alignment(prompts, np.array([T1, np.inf]), rho, bias)
    assert both[1] == pytest.approx(gradient.squared_norm_inside.sum() / gradient.squared_norm.sum(), rel=1e-13)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("link", "bias"), [(HE2, 0.0), (HE2, 0.5), (HE3, 0.5), (HE4, 0.3)])
def test_misalignment_of_the_population_gradient(link, bias):
    Q, rho = link.degree, 1e-3
    a = relu_coefficients(Q + 2, bias)
    lost = 1 - population_gradient(link, 5, rho, bias).alignment
    assert lost == pytest.approx(rho**2 * (a[Q + 2] / (Q * a[Q])) ** 2, rel=1e-3)


def test_leading_part_of_the_population_gradient():
    """2 A rho -> 2 C_QQ a_Q^2 (2Q - 1)!! rho^{2Q-1}/(Q! (Q-1)! r(r+2)..)."""
    for link, bias, odd in ((HE2, 0.0, 3), (HE3, 0.7, 15), (HE4, 0.2, 105)):
        Q, r, rho = link.degree, 3, 1e-3
        span = np.prod([r + 2 * i for i in range(Q)])
        leading = factorial(Q) * relu_coefficients(Q, bias)[Q] ** 2 * odd / (factorial(Q) * factorial(Q - 1) * span)
        assert pytest.approx(leading * rho ** (2 * Q - 2), rel=1e-5) == population_gradient(link, r, rho, bias).A


def test_degree_two_in_closed_form():
    for r, tau in ((2, 0.3), (4, 0.0), (7, 1.0)):
        limits = rate_limits(HE2, 100, r, tau)
        assert limits.tokens == pytest.approx(np.pi**2 / 18 * (1 + tau**2) ** 2 * (r + 2) ** 2 * 100**4 / r, rel=1e-12)
        assert limits.tasks == pytest.approx(np.pi / 24 * (1 + tau**2) * (r + 2) * 100**2, rel=1e-12)
        M4 = 3 / (r * (r + 2))
        crossover = 4 * (1 + tau**2) / (2 / (2 * np.pi) * M4 * (r / 100) ** 2)
        assert limits.crossover == pytest.approx(crossover, rel=1e-12)


@pytest.mark.parametrize("link", [HE2, HE3, HE4, MIX, CORRELATED], ids=["he2", "he3", "he4", "mix", "correlated"])
def test_number_of_tasks_tends_to_its_limits(link):
    d, r, tau, bias = 10**5, 3, 0.4, 0.4
    limits = rate_limits(link, d, r, tau, bias)
    for N1, limit in ((1, limits.tokens), (INFINITE, limits.tasks)):
        assert critical_tasks(Prompts(link, d, r, N1, tau), bias) == pytest.approx(limit, rel=2e-3)
    halfway = critical_tasks(Prompts(link, d, r, limits.crossover, tau), bias)
    assert halfway == pytest.approx(2 * limits.tasks, rel=2e-3)


def test_uniform_neurons():
    for d, r in ((8, 2), (16, 3), (500, 4)):
        rho, weight = uniform_neurons(d, r)
        assert weight @ rho**2 == pytest.approx(r / d, rel=1e-11)
        assert weight @ rho**4 == pytest.approx(r * (r + 2) / (d * (d + 2)), rel=1e-10)
    assert uniform_neurons(4, 4)[0].tolist() == [1.0]


def test_one_dimensional_subspace_and_full_space():
    """r = 1: beta = +-e_1. r = d: every direction is inside."""
    given = [conditional_moments(HE2, 6, 1, 0.2, s, 0.5) for s in (0.5, -0.5)]
    assert given[0].m == pytest.approx(given[1].m)
    V = np.mean([2 * g.S1 * g.S2 / 7 + (1 - 1 / 7) * g.S1 * g.m**2 for g in given])
    assert second_moments(Prompts(HE2, 6, 1, 7, 0.2), 0.5).orthogonal == pytest.approx(V, rel=1e-12)
    moments = second_moments(Prompts(HE2, 6, 6, 7, 0.2), 1.0)
    assert moments.full == pytest.approx(moments.inside, rel=1e-12)


def test_visible_exponent():
    assert [visible_exponent(link, 0.5) for link in (HE2, HE3, HE4, MIX)] == [2, 3, 4, 2]
    odd_first = links.polynomial([0, 0, 0, 1, 1])
    assert (odd_first.information_exponent, visible_exponent(odd_first), visible_exponent(odd_first, 0.1)) == (3, 4, 3)
    assert population_gradient(HE3, 2, 0.5).A == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prompts(HE2, 8, 9, 64, 0.1), r"r must lie in \[1, d = 8\], got 9"),
        (lambda: Prompts(HE2, 8, 2, 0, 0.1), "N1 must be at least 1, got 0"),
        (lambda: Prompts(HE2, 8, 2, 64, -0.1), "tau must be >= 0 and finite, got -0.1"),
        (lambda: critical_tasks(Prompts(HE3, 8, 2, 64, 0.1)), "bias must not be 0: .*none of odd degree 3 or more"),
        (lambda: critical_tasks(Prompts(HE4, 8, 2, 64, 0.1), 1.0), "bias must not be 1"),
        (lambda: alignment(Prompts(HE3, 8, 2, 64, 0.1), np.inf, 0.5), "bias must not be 0"),
        (lambda: alignment(Prompts(HE2, 8, 2, 64, 0.1), 0, 0.5), "T1 must be at least 1, got 0"),
        (lambda: population_gradient(HE2, 2, 1.5), r"rho = \|Pi w\| must be in \[0, 1\], got 1.5"),
        (lambda: conditional_moments(HE2, 4, 2, 0.1, 0.6, 0.5), r"s = <beta, w> must be at most rho"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
