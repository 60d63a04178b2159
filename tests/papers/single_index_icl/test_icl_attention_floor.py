"""The risk floor of linear attention against grids of the plane and the line, exact linear algebra and known values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theorysim.errors import InputError
from theorysim.papers.single_index_icl.theory import links, zonal
from theorysim.papers.single_index_icl.theory.attention_floor import (
    AttentionKernel,
    GridProblem,
    attention_floor,
    floor_spectrum,
    grid_problem,
    half_length,
    half_length_asymptote,
    polar_grid,
    polynomial_spectrum,
    radial_nodes,
    zero_shot_risk,
)
from theorysim.papers.single_index_icl.theory.links import HE2, HE3, HE4, MIX, polynomial

CORRELATED = polynomial([0, 0, 1, 0, np.sqrt(12)])
FULL = links.ellipsoid(np.array([[1.0, 0.3, -0.5], [0.3, 2.0, 0.4], [-0.5, 0.4, 9.0]]), 2)
LINKS = {"he2": HE2, "he3": HE3, "he4": HE4, "mix": MIX, "correlated": CORRELATED, "full": FULL}


def shown(reference, value):
    """The reference, printed to so many decimals, is the value rounded."""
    decimals = len(reference.partition(".")[2])
    return abs(float(reference) - value) <= 0.51 * 10.0**-decimals


# --- known values -----------------------------------------------------------------------------------------------------

TABLE = """
he2 2 .631386 .114339 .032051 .008268 .002084 .000522
he2 4 .867778 .358293 .130122 .036789 .009511 .002398
he2 8 .958853 .662957 .355141 .125395 .034981 .009007
he2 16 .988629 .872039 .664244 .346520 .119279 .032929
he3 2 .689839 .160642 .050100 .013436 .003423 .000860
he3 4 .914946 .491177 .234208 .078732 .021634 .005548
he3 8 .981956 .811260 .592634 .316937 .113697 .031976
mix 2 .886891 .469010 .251705 .100075 .030409 .008078
mix 4 .967044 .726067 .495842 .267141 .105034 .031758
mix 8 .991794 .903586 .757407 .543145 .312687 .134788
"""


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_reference_floors(row):
    name, r, *values = row.split()
    floors = attention_floor(np.array([1, 16, 64, 256, 1024, 4096]), LINKS[name], int(r), 0.1)
    assert all(map(shown, values, floors))


def test_reference_floors_of_other_settings():
    assert all(map(shown, (".499455", ".098222"), attention_floor(np.array([4, 64]), CORRELATED, 2, 0.1)))
    assert shown(".219397", attention_floor(64, CORRELATED, 3, 0.1))
    assert attention_floor(64, HE2, 4, 0.3) == pytest.approx(0.148648, abs=5e-7)
    assert shown(".1333", attention_floor(64, HE3, 3, 0.1))
    N, floors = 2 ** np.arange(1, 9), (".5479", ".3888", ".2489", ".1457", ".0799", ".0420", ".0216", ".0109")
    assert all(map(shown, floors, attention_floor(N, HE2, 2, 0.3)))
    for N, values in ((64, (".355", ".664")), (256, (".125", ".347"))):
        assert all(map(shown, values, [attention_floor(N, HE2, d, 0.1) for d in (8, 16)]))
    assert shown("2.13942", floor_spectrum(HE2, 2, 0.1).large_length_limit)
    assert shown("9.85098", floor_spectrum(HE2, 4, 0.1).large_length_limit)
    assert shown(".547", polynomial_spectrum(HE2, 2, 0.1).risk(16))


HALF_LENGTHS = {
    "he2": ("1.799", "8.406", "33.849", "132.516", "522.288", "2075.83"),
    "he3": ("2.413", "15.310", "102.919", "749.036", "5708.20", "44686.6"),
    "he4": ("2.859", "22.758", "231.976", "3143.53", "46903.2", "724037"),
}


@pytest.mark.parametrize(
    ("name", "slope", "ratio"), [("he2", "1.991", "0.973"), ("he3", "2.969", "0.924"), ("he4", "3.948", "0.856")]
)
def test_reference_half_lengths(name, slope, ratio):
    dimensions = (2, 4, 8, 16, 32, 64)
    lengths = [half_length(LINKS[name], r, 0.1) for r in dimensions]
    assert all(map(shown, HALF_LENGTHS[name], lengths))
    assert shown(slope, np.log2(lengths[-1] / lengths[-2]))
    assert shown(ratio, lengths[-1] / half_length_asymptote(LINKS[name], 64, 0.1))
    asymptote = 1.01 / (zonal.zonal_eigenvalue(LINKS[name].degree, LINKS[name].degree, 64))
    assert half_length_asymptote(LINKS[name], 64, 0.1) == pytest.approx(asymptote, rel=1e-12)


def test_half_length_tends_to_its_asymptote():
    ratios = [half_length(HE3, r, 0.5) / half_length_asymptote(HE3, r, 0.5) for r in (50, 200, 800)]
    assert np.all(np.diff(np.log(1 - np.array(ratios))) < -1.1)  # 1 - O(1/r)


# --- closed form against the matrices ---------------------------------------------------------------------------------


def matrix_floor(N, link, r, tau):
    """sum_l n_l tr[L - L M (I/N + (1 - 1/N) L M)^{-1} L], and tr[M^{-1} - L], M by the trapezoidal rule."""
    rho = np.linspace(0, np.sqrt(r) + 11, 20_001)[1:]
    log_weight = (r - 1) * np.log(rho) - rho**2 / 2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    q = tau**2 + zonal.signal_power(rho, link, r)
    c, total, limit = link.normalised_moments, 0.0, 0.0
    for degree in range(link.degree + 1):
        ks = [
            k
            for k in range(max(degree, link.information_exponent), link.degree + 1)
            if (k - degree) % 2 == 0 and c[k, k]
        ]
        if not ks:
            continue
        root = np.sqrt([zonal.zonal_eigenvalue(k, degree, r) for k in ks])
        L = c[np.ix_(ks, ks)] * np.outer(root, root)
        R = np.stack([zonal.radial_function(k, degree, r, rho) for k in ks])
        M = (R * (weight / q)) @ R.T
        learned = L @ M @ np.linalg.solve(np.eye(len(ks)) / N + (1 - 1 / N) * L @ M, L)
        total += zonal.multiplicity(degree, r) * np.trace(L - learned)
        limit += zonal.multiplicity(degree, r) * np.trace(np.linalg.inv(M) - L)
    return total, limit


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("r", [2, 3, 6])
def test_modes_are_the_matrix_formula(name, r):
    spectrum = floor_spectrum(LINKS[name], r, 0.2)
    assert spectrum.power.sum() == pytest.approx(LINKS[name].variance, rel=1e-12)
    assert np.all((spectrum.gain > 0) & (spectrum.gain < 1))
    for N in (1, 7, 300):
        assert spectrum.risk(N) == pytest.approx(matrix_floor(N, LINKS[name], r, 0.2)[0], rel=1e-6)
    if name != "correlated":  # L_0 and L_2 are singular there
        assert spectrum.large_length_limit == pytest.approx(matrix_floor(2, LINKS[name], r, 0.2)[1], rel=1e-6)
    assert 1e9 * spectrum.risk(1e9) == pytest.approx(spectrum.large_length_limit, rel=1e-5)


@pytest.mark.parametrize(("r", "tau"), [(1, 0.03), (2, 0.1), (2, 0.03), (3, 0.01), (30, 0.1)])
def test_radial_quadrature_has_converged(r, tau):
    """Against a trapezoidal rule, and between links whose q is least in other places."""
    node = np.linspace(0, np.sqrt(r) + 11, 200_001)[1:]
    weight = np.exp((r - 1) * np.log(node / np.sqrt(r)) - (node**2 - r) / 2)
    weight[-1] /= 2
    if r == 1:  # the end point at the origin has half a weight too
        node, weight = np.append(0.0, node), np.append(np.exp(1 / 2) / 2, weight)
    rho, nodes_weight = radial_nodes(r)
    for link in (HE2, HE3, MIX, FULL):
        expected = np.average(1 / (tau**2 + zonal.signal_power(node, link, r)), weights=weight)
        assert nodes_weight @ (1 / (tau**2 + zonal.signal_power(rho, link, r))) == pytest.approx(expected, rel=1e-7)


def test_no_label_noise_is_admitted():
    assert attention_floor(1e6, HE2, 3, 0.0) < 1e-4


@given(st.floats(1, 1e5), st.integers(2, 40), st.floats(0.01, 2))
@settings(max_examples=15)
def test_floor_is_monotone_and_between_zero_and_v(N, r, tau):
    floor = attention_floor(N, MIX, r, tau)
    assert 0 < floor < 1
    assert attention_floor(2 * N, MIX, r, tau) < floor < attention_floor(N, MIX, r + 1, tau)
    assert floor < attention_floor(N, MIX, r, tau + 0.1)
    assert floor <= polynomial_spectrum(MIX, r, tau).risk(N)
    assert floor_spectrum(MIX, r, tau).length(floor) == pytest.approx(N, rel=1e-8)


def test_one_dimension():
    """r = 1 by Nystrom on the line: q/N + (1 - 1/N) K."""
    N, tau = 20, 0.2
    grid = np.linspace(-7.5, 7.5, 501)
    weight = np.exp(-(grid**2) / 2)
    weight /= weight.sum()
    for link in (HE3, MIX):
        K = zonal.prior_kernel(grid[:, None], grid[:, None], link)
        q = tau**2 + np.diag(K)
        G = np.linalg.solve(np.diag(q) / N + (1 - 1 / N) * K * weight, K)
        floor = weight @ (np.diag(K) - np.sum(K * weight * G.T, 1))
        assert attention_floor(N, link, 1, tau) == pytest.approx(floor, rel=1e-6)


# --- the class on a grid of the plane ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reference"), [("he2", ".0320508"), ("mix", ".25170496"), ("full", None), ("he3", None)]
)
def test_nystrom_on_the_polar_grid(name, reference):
    link = LINKS[name]
    risk = grid_problem(link, 0.1, polar_grid(160)).spectrum().risk(np.array([4, 64]))
    np.testing.assert_allclose(risk, attention_floor(np.array([4, 64]), link, 2, 0.1), rtol=1e-7)
    assert reference is None or shown(reference, risk[1])
    if name == "he2":
        assert shown(".324473", risk[0])


def test_grid_kernel_and_modes_against_the_dense_system():
    grid, N = polar_grid(14, 10), 9.0
    for link in (MIX, CORRELATED):
        problem = grid_problem(link, 0.2, grid)
        K, q = problem.kernel, problem.second_moment
        np.testing.assert_allclose(
            K, zonal.prior_kernel(grid.points, grid.points, link), rtol=1e-9, atol=1e-9 * K.max()
        )
        G = np.linalg.solve(np.diag(q) / N + (1 - 1 / N) * K * grid.weights, K)
        floor = grid.weights @ (np.diag(K) - np.sum(K * (grid.weights * G.T), 1))
        assert problem.spectrum().risk(N) == pytest.approx(floor, rel=1e-9)
        assert problem.risk(N, G) == pytest.approx(floor, rel=1e-9)


def direct_risk(problem, N, G):
    """By definition: v - 2 E[K G] + (1 - 1/N) E[G K G] + E[q G^2]/N."""
    w, K = problem.weights, problem.kernel
    quadratic = np.einsum("gh,g,gk,k,kh,h->", G, w, K, w, G, w, optimize=True)
    spread = np.einsum("g,h,g,gh->", w, w, problem.second_moment, G**2)
    return w @ np.diag(K) - 2 * np.einsum("g,h,gh,gh->", w, w, K, G) + (1 - 1 / N) * quadratic + spread / N


@given(st.integers(0, 10**6), st.sampled_from([1, 5, 40]), st.floats(0, 1))
@settings(max_examples=20)
def test_every_attention_is_above_the_floor(seed, N, mixing):
    grid = polar_grid(12, 10)
    problem = grid_problem(HE2, 0.1, grid)
    floor = problem.spectrum().risk(float(N))
    noise = np.random.default_rng(seed).normal(size=(120, 120))
    best = AttentionKernel(HE2, 2, 0.1, N)(grid.points, grid.points)
    attention = mixing * best + (1 - mixing) * noise
    risk = problem.risk(N, attention)
    assert risk == pytest.approx(direct_risk(problem, N, attention), rel=1e-9)
    assert risk >= floor - 1e-9


@pytest.mark.parametrize("name", ["he2", "mix", "correlated"])
def test_attention_kernel_attains_the_floor(name):
    link, grid, N = LINKS[name], polar_grid(160, 10), 16.0
    problem = grid_problem(link, 0.1, grid)
    attention = AttentionKernel(link, 2, 0.1, N)(grid.points, grid.points)
    assert problem.risk(N, attention) == pytest.approx(float(attention_floor(N, link, 2, 0.1)), rel=1e-6)
    if name == "he2":  # without the weight 1/q it is far above
        assert problem.risk(N, attention * problem.second_moment[:, None]) == pytest.approx(1.05, abs=0.02)


def test_attention_kernel_by_monte_carlo():
    """r = 4, N = 64, tau = .3, where the floor is .1487: fresh prompts, in batches that share nothing."""
    r, N, tau, prompts, batch = 4, 64, 0.3, 4000, 8
    generator = np.random.default_rng(5)
    kernel = AttentionKernel(HE2, r, tau, N)
    owner = np.arange(batch)
    errors = []
    for _ in range(prompts // batch):
        beta = generator.normal(size=(batch, r))
        beta /= np.linalg.norm(beta, axis=1)[:, None]
        x = generator.normal(size=(batch, N + 1, r))
        f = (np.einsum("bnr,br->bn", x, beta) ** 2 - 1) / np.sqrt(2)
        y = f[:, :-1] + tau * generator.choice([-1, 1], (batch, N))
        weights = kernel(x[:, :-1].reshape(-1, r), x[:, -1]).reshape(batch, N, batch)[owner, :, owner]
        errors.append((np.mean(y * weights, 1) - f[:, -1]) ** 2)
    errors = np.concatenate(errors)
    error = errors.std() / np.sqrt(len(errors))
    assert abs(errors.mean() - attention_floor(N, HE2, r, tau)) < 3 * error
    assert error < 0.02


@pytest.mark.parametrize(("width", "low", "high"), [(10, 0.3, 0.6), (40, 0.14, 0.2), (160, 0.119, 0.13)])
def test_best_attention_on_random_features(width, low, high):
    """ReLU neurons of norm 1.5, biases Unif[-2, 2]; towards .1143 as they become many."""
    grid, N = polar_grid(), 16.0
    problem = grid_problem(HE2, 0.1, grid)
    generator = np.random.default_rng(width)
    angle = generator.uniform(0, 2 * np.pi, width)
    W = 1.5 * np.stack([np.cos(angle), np.sin(angle)])
    phi = np.maximum(grid.points @ W + generator.uniform(-2, 2, width), 0)
    gamma, risk = problem.best_attention(N, phi)
    assert low < risk < high
    assert risk > attention_floor(N, HE2, 2, 0.1)
    # f_hat = <Gamma psi, phi(x)>, so G_gh = phi_h^T Gamma phi_g; and no other Gamma is better.
    attention = phi @ gamma.T @ phi.T
    assert problem.risk(N, attention) == pytest.approx(risk, abs=1e-6)
    scale = np.abs(gamma).max()
    for _ in range(5):
        other = gamma + 1e-2 * scale * generator.normal(size=gamma.shape)
        assert problem.risk(N, phi @ other.T @ phi.T) >= risk - 1e-6


def test_features_that_divide_by_q_reach_the_floor():
    """The kernel's own features, and those over q."""
    problem = grid_problem(MIX, 0.3, polar_grid(40, 16))
    own = np.hstack([problem.features, problem.features / problem.second_moment[:, None]])
    assert problem.best_attention(30, own).risk == pytest.approx(float(problem.spectrum().risk(30)), rel=1e-5)


def test_features_outside_the_subspace_only_add():
    """d = 2, r = 1: the grid has the second coordinate too, and its floor is still that of r = 1."""
    node = np.linspace(-7.5, 7.5, 501)
    density = np.exp(-(node**2) / 2)
    other, other_weight = np.polynomial.hermite_e.hermegauss(4)
    weights = np.outer(density / density.sum(), other_weight / other_weight.sum()).ravel()
    inside, outside = np.repeat(node, 4), np.tile(other, 501)
    features = HE3(inside).T  # an odd link: f(x) f(x') is the same for beta and -beta
    problem = GridProblem(weights, features, 0.04 + np.square(features).sum(1))
    floor = float(attention_floor(12, HE3, 1, 0.2))
    assert problem.spectrum().risk(12) == pytest.approx(floor, rel=1e-5)
    best = AttentionKernel(HE3, 1, 0.2, 12)(inside[:, None], inside[:, None])
    assert problem.risk(12, best) == pytest.approx(floor, rel=1e-5)
    assert problem.risk(12, best * (1 + 0.1 * outside[:, None])) > 1.01 * floor
    assert problem.risk(12, best * (1 + 0.1 * np.outer(outside, outside))) > 1.01 * floor


# --- others -----------------------------------------------------------------------------------------------------------


def test_zero_shot_risk():
    assert zero_shot_risk(HE2, 2) == pytest.approx(0.5)
    assert zero_shot_risk(HE3, 4) == pytest.approx(1)
    assert zero_shot_risk(MIX, 4) == pytest.approx(1)  # signs are symmetric
    grid = polar_grid(40, 16)
    angle = 2 * np.pi * np.arange(16) / 16
    values = CORRELATED(grid.points @ np.stack([np.cos(angle), np.sin(angle)]))[0]
    expected = grid.weights @ values.var(1)
    assert zero_shot_risk(CORRELATED, 2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: attention_floor(0.5, HE2, 2, 0.1), "prompt length N must be at least 1, got 0.5"),
        (lambda: attention_floor(4, HE2, 0, 0.1), "dimension r must be at least 1, got 0"),
        (lambda: attention_floor(4, HE2, 2, -0.1), "tau must be >= 0 and finite, got -0.1"),
        (lambda: half_length_asymptote(MIX, 4, 0.1), "link must have one degree, got 2 to 4"),
        (lambda: floor_spectrum(HE2, 4, 0.1).length(0.0), r"risk must lie in \(0, 0.86.*, got 0"),
        (lambda: half_length(HE2, 1, 0.1), r"risk must lie in \(0, 0.\d+\]"),
        (lambda: AttentionKernel(HE2, 2, 0.1, 0), "prompt length N must be at least 1, got 0"),
        (lambda: grid_problem(HE2, -1.0, polar_grid(4, 6)), "tau must be >= 0"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
