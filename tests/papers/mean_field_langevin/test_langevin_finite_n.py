"""The exact law of N neurons against quadrature, brute force over nodes, reference values and the bounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from theorysim.errors import InputError
from theorysim.papers.mean_field_langevin.theory import finite_n
from theorysim.papers.mean_field_langevin.theory import mean_field as theory
from theorysim.papers.mean_field_langevin.theory.mean_field import RBF, TANH, Model

Z = np.array([[0.7], [2.0]])
GRID = theory.ball_grid(6.0, 401)
TANH1D = theory.mf_optimum(theory.tanh1d(), GRID)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices are small: on a busy machine the threads of the linear algebra would wait for each other."""
    with threadpool_limits(1):
        yield


def close(value, *reference):
    """Each value is the reference, printed to so many decimals."""
    for v, text in zip(np.ravel(value), reference, strict=True):
        assert abs(float(text) - v) <= 0.51 * 10.0 ** -len(text.partition(".")[2]), (text, v)


def column(*z):
    return np.array(z)[:, None]


# --- P* by the Hubbard-Stratonovich transform -------------------------------------------------------------------------

TABLE = [
    (1, "0.08590942", ("-0.10743046", "-0.09701844"), ("0.01551201", "0.09703572")),
    (2, "0.05717951", ("0.03100460", "0.08476452"), ("0.03284319", "0.05010294")),
    (4, "0.05867819", ("-0.01025265", "0.01308042"), ("0.03059513", "0.07100746")),
    (8, "0.05696166", ("-0.01466122", "-0.00711835"), ("0.02895103", "0.06737438")),
    (16, "0.0564332477", ("-0.01413426", "-0.00675299"), ("0.02888793", "0.06689988")),
    (64, "0.0560488146", ("-0.01392775", "-0.00684642"), ("0.02883003", "0.06660188")),
    (256, "0.05595390", ("-0.01387515", "-0.00686666"), ("0.02881575", "0.06652670")),
]


@pytest.mark.parametrize("size, gap, bias, variance", TABLE)
def test_tanh1d_reference(size, gap, bias, variance):
    law = finite_n.gibbs_law(TANH1D, size, Z)
    close(size * law.gap, gap)
    close(size * law.bias, *bias)
    close(size * law.variance, *variance)
    np.testing.assert_allclose(law.training, law.mean_square, rtol=1e-12)  # the test inputs are the training inputs
    finer = finite_n.gibbs_law(TANH1D, size, Z, refine=1.6)
    assert abs(finer.gap - law.gap) < 1e-13
    np.testing.assert_allclose(finer.bias, law.bias, rtol=0, atol=1e-13)
    np.testing.assert_allclose(finer.variance, law.variance, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [1, 2])
def test_transform_equals_quadrature(size):
    z = column(0.7, 3.0)
    for optimum in (TANH1D, theory.mf_optimum(theory.rbf(0.2), theory.ball_grid(16.0, 501))):
        law, direct = finite_n.gibbs_law(optimum, size, z), finite_n.direct_law(optimum, size, z)
        for a, b in zip(law, direct, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_three_neurons_and_three_inputs_by_enumeration():
    """Every triple of 23 nodes: the transform is exact for any mu* on any nodes."""
    model = Model(TANH, column(0.7, 2.0, -1.0), np.array([0.8, -0.4, 0.3]), 0.05, 0.05)
    optimum = theory.mf_optimum(model, theory.ball_grid(4.0, 23))
    p = optimum.density * optimum.grid.weight
    H = optimum.features
    triples = np.array(list(itertools.product(range(23), repeat=3)))
    deviation = H[triples].mean(1)
    weight = p[triples].prod(1) * np.exp(-3 / 0.05 * (deviation**2).mean(1) / 2)
    law = finite_n.gibbs_law(optimum, 3, column(1.5))
    assert law.gap == pytest.approx(-0.05 / 3 * np.log(weight.sum()), abs=1e-13)
    weight /= weight.sum()
    h = np.tanh(1.5 * optimum.grid.line)
    error = (h - p @ h)[triples].mean(1)
    assert law.bias[0] == pytest.approx(weight @ error, abs=1e-13)
    assert law.mean_square[0] == pytest.approx(weight @ error**2, abs=1e-13)
    np.testing.assert_allclose(law.training, weight @ deviation**2, atol=1e-13)
    product = p[triples].prod(1)
    assert law.kl(0.05) == pytest.approx(weight @ np.log(weight / product), abs=1e-11)
    marginals = finite_n.gibbs_marginals(optimum, 3)
    first, pair = np.zeros(23), np.zeros((23, 23))
    np.add.at(first, triples[:, 0], weight)
    np.add.at(pair, (triples[:, 0], triples[:, 1]), weight)
    np.testing.assert_allclose(marginals.single * p, first, atol=1e-13)
    np.testing.assert_allclose(marginals.pair * np.outer(p, p), pair, atol=1e-13)


def test_many_inputs_lie_along_few_directions():
    """Eight inputs; directions of K below the cutoff change Delta_N by less than their trace/(2 n N)."""
    z = np.linspace(-1.2, 2.0, 8)
    model = Model(TANH, z[:, None], np.cos(2 * z), 0.2, 0.2)
    optimum = theory.mf_optimum(model, theory.ball_grid(7.0, 201))
    eigenvalues = np.linalg.eigvalsh(optimum.K / (0.2 * 8))
    laws = [finite_n.gibbs_law(optimum, 4, column(0.5), cutoff) for cutoff in (1e-2, 1e-3)]
    dropped = eigenvalues[eigenvalues <= 1e-2].sum()
    assert 0 < laws[1].gap - laws[0].gap <= dropped * 0.2 / (2 * 4)
    assert laws[1].gap < optimum.gap_bound / 4


def test_gap_converges_to_kappa():
    """f = N Delta_N: Richardson's 2 f(2N) - f(N) approaches kappa as N^-2, f - kappa = 0.0081/N."""
    sizes = 2 ** np.arange(3, 9)
    f = np.array([size * finite_n.gibbs_law(TANH1D, size, Z).gap for size in sizes.tolist()])
    error = np.abs((2 * f[1:] - f[:-1]) / TANH1D.kappa - 1)
    np.testing.assert_allclose(error, [3.1e-4, 6.0e-5, 1.5e-5, 3.9e-6, 9.7e-7], rtol=0.03)
    assert abs(sizes[-1] * (f[-1] - TANH1D.kappa) - 0.0081) < 5e-5


@pytest.mark.parametrize("size", [16, 256])
def test_variance_and_bias_converge(size):
    law, limit = finite_n.gibbs_law(TANH1D, size, Z), theory.predict(TANH1D, Z)
    np.testing.assert_allclose(size * law.variance, limit.variance, rtol=0.11 / size)
    np.testing.assert_allclose(size * law.bias, limit.bias, rtol=0.4 / size)


@pytest.mark.parametrize(
    "lam, eight, many",
    [
        (0.2, "0.05993236", "0.05911378"),
        (0.1, "0.05054645", "0.04959819"),
        (0.05, "0.03943308", "0.03863589"),
        (0.02, "0.02467446", "0.02451618"),
        (0.01, "0.01406272", "0.01576532"),
        (0.005, "0.00697657", "0.00960118"),
    ],
)
def test_rbf_reference(lam, eight, many):
    optimum = theory.mf_optimum(theory.rbf(lam))
    for size, value in ((8, eight), (64, many)):
        law = finite_n.gibbs_law(optimum, size, Z[:1])
        close(size * law.gap, value)
        assert size * law.gap <= optimum.gap_bound


def test_output_bounds_reference():
    optimum = theory.mf_optimum(theory.rbf(0.1))
    law = finite_n.gibbs_law(optimum, 8, column(0.0))
    close(law.gap, "0.00632")
    close(law.bias**2, "0.0000206")
    close(law.mean_square, "0.01104")
    close(law.training.mean(), "0.00846")
    bias, square = theory.output_bounds_kl(optimum.model, 8, law.kl(0.1))
    close(bias, "0.0418")
    close(square, "0.2568")


@settings(max_examples=40)
@given(
    z=st.lists(st.floats(-2, 2), min_size=1, max_size=2),
    y=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    lam=st.floats(0.03, 3),
    lamp=st.floats(0.03, 2),
    neuron=st.sampled_from([TANH, RBF]),
    size=st.integers(1, 32),
)
def test_bounds_hold(z, y, lam, lamp, neuron, size):
    model = Model(neuron, column(*z), np.array(y[: len(z)]), lam, lamp)
    optimum = theory.mf_optimum(model)
    law = finite_n.gibbs_law(optimum, size, column(0.5))
    assert -1e-12 <= law.gap <= optimum.gap_bound / size + 1e-12
    assert -1e-10 <= law.kl(lam) <= size * law.gap / lam + 1e-10
    bounds = theory.output_bounds(model, size, law.gap)
    bias, square = theory.output_bounds_kl(model, size, law.kl(lam))
    assert law.bias[0] ** 2 <= bias + 1e-12 and bias <= bounds.bias + 1e-9
    assert law.mean_square[0] <= square and square <= bounds.mean_square + 1e-9
    assert law.training.mean() <= bounds.training + 1e-12


def test_transform_rejects():
    with pytest.raises(InputError, match="loss must be squared"):
        finite_n.gibbs_law(theory.mf_optimum(theory.tanhlog(), GRID), 4, Z)
    with pytest.raises(InputError, match="size must be at least 1, got 0"):
        finite_n.gibbs_law(TANH1D, 0, Z)
    with pytest.raises(InputError, match="at least 2 for pairs"):
        finite_n.gibbs_marginals(TANH1D, 1)
    with pytest.raises(InputError, match="must be 1 or 2"):
        finite_n.direct_law(TANH1D, 3, Z)
    with pytest.raises(InputError, match="raise cutoff"):
        model = Model(TANH, np.linspace(-3, 3, 9)[:, None], np.sin(np.arange(9.0)), 0.02, 0.02)
        finite_n.gibbs_law(theory.mf_optimum(model), 1, Z, cutoff=0.0)


# --- marginals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, single, pair, joint",
    [
        (16, "0.040486", "0.52839", "0.64965"),
        (64, "0.039641", "0.48584", "0.64380"),
        (256, "0.039428", "0.47617", "0.64236"),
    ],
)
def test_local_chaos_reference(size, single, pair, joint):
    distances = finite_n.chaos_distances(TANH1D, finite_n.gibbs_marginals(TANH1D, size))
    close(size**2 * distances.single, single)
    close(size**2 * distances.pair, pair)
    close(finite_n.gibbs_law(TANH1D, size, Z).kl(0.05), joint)
    # N^2 W_2^2 = 0.020837 + 0.0101/N + ...: the same relative rate as N^2 KL
    limit = theory.local_chaos(TANH1D).transport
    assert size * (size**2 * distances.transport - limit) == pytest.approx(0.0101, abs=2e-4)


def test_pairs_of_two_neurons_are_the_whole_law():
    optimum = theory.mf_optimum(theory.tanh1d(), theory.ball_grid(6.0, 101))
    density = finite_n.normalised_pair(optimum.grid, finite_n.pair_gibbs(optimum.model, optimum.grid))
    marginals = finite_n.gibbs_marginals(optimum, 2)
    product = np.outer(optimum.density, optimum.density)
    np.testing.assert_allclose(marginals.pair * product, density, atol=1e-12)
    np.testing.assert_allclose(marginals.single * optimum.density, density.sum(1) * optimum.grid.weight, atol=1e-12)


def test_wasserstein_of_normal_laws():
    a, b = theory.normal_density(GRID, 0.1, 0.4), theory.normal_density(GRID, 0.12, 0.41)
    exact = 0.02**2 + (np.sqrt(0.41) - np.sqrt(0.4)) ** 2
    assert finite_n.wasserstein2(GRID, a, b) == pytest.approx(exact, rel=1e-6)


# --- one and two neurons, any law -------------------------------------------------------------------------------------


def test_logistic_reference():
    """N Delta_N, biases and variances of one and two neurons."""
    optimum = theory.mf_optimum(theory.tanhlog(), GRID)
    one, two = (finite_n.direct_law(optimum, size, column(3.0, 2.0)) for size in (1, 2))
    close([one.gap, 2 * two.gap], "0.0088299", "0.0098872")
    close(one.bias, "-0.096616", "-0.081122")
    close(two.bias, "-0.056642", "-0.047459")
    close(one.variance, "0.062471", "0.065988")
    close(two.variance, "0.049657", "0.044699")
    # the gap identity with KL by quadrature
    density = finite_n.normalised_pair(GRID, finite_n.pair_gibbs(optimum.model, GRID))
    kl = finite_n.pair_kl(GRID, density, np.outer(optimum.density, optimum.density))
    assert two.kl(0.05) == pytest.approx(kl, abs=1e-12)


def test_pair_identities():
    """gap = E B + (lam/2) KL(P||mu*^2) = Delta_2 + (lam/2) KL(P||P*) for random laws."""
    rng = np.random.default_rng(3)
    for model in (theory.tanh1d(), theory.tanhlog()):
        optimum = theory.mf_optimum(model, theory.ball_grid(6.0, 161))
        grid, log_gibbs = optimum.grid, finite_n.pair_gibbs(model, optimum.grid)
        gibbs, product = finite_n.normalised_pair(grid, log_gibbs), np.outer(optimum.density, optimum.density)
        delta = finite_n.direct_law(optimum, 2, Z).gap
        for k in range(6):
            density = finite_n.normalised_pair(grid, finite_n.random_pair_law(rng, grid, log_gibbs if k % 2 else None))
            assert (density >= 0).all() and np.abs(density - density.T).max() < 1e-14
            gap = finite_n.pair_objective(model, grid, density) - optimum.value
            bregman = finite_n.pair_bregman(optimum, density)
            assert abs(gap - bregman - model.lam / 2 * finite_n.pair_kl(grid, density, product)) < 1e-13
            assert abs(gap - delta - model.lam / 2 * finite_n.pair_kl(grid, density, gibbs)) < 1e-13


def test_fisher_information_of_normal_laws():
    grid = theory.ball_grid(6.0, 321)
    x = grid.line
    a, b = -((x - 0.2) ** 2) / (2 * 0.5), -((x + 0.1) ** 2) / (2 * 0.7)
    exact = 2 * (0.5 * (1 / 0.7 - 1 / 0.5) ** 2 + (0.3 / 0.7) ** 2)
    assert finite_n.fisher_information(grid, a[:, None] + a, b[:, None] + b) == pytest.approx(exact, rel=1e-10)


DEFECTIVE = Model(TANH, column(0.7, 1.2), np.array([0.5, -0.4]), 0.1, 0.4)


def test_directional_lsi():
    alpha = finite_n.directional_lsi(DEFECTIVE, 2, 6.0)
    close(alpha, "2.8190")
    inner = np.linspace(-3, 3, 301)  # a grid that stops short overstates the minimum
    energy = 2 * finite_n.pair_energy(DEFECTIVE, theory.Grid(inner[:, None], 3.0, 0.02)) / 0.1
    curvature = np.diff(energy, 2, axis=0) / 0.02**2
    assert 2.82 < curvature.min() < 2.87
    close(finite_n.direct_law(theory.mf_optimum(DEFECTIVE, GRID), 2, Z).gap, "0.01720")
    # with one neuron there are no others, and the curvature is that of F
    single = -np.diff(np.log(theory.normalised(GRID, -_single_energy())), 2) / GRID.spacing**2
    assert finite_n.directional_lsi(DEFECTIVE, 1, 6.0) == pytest.approx(single.min(), rel=1e-3)


def _single_energy():
    h = np.tanh(np.outer(GRID.line, [0.7, 1.2]))
    return (((h - DEFECTIVE.y) ** 2).mean(1) / 2 + 0.4 * GRID.line**2) / 0.1


def test_defective_lsi_holds_and_its_defect_is_needed():
    rng, grid = np.random.default_rng(4), theory.ball_grid(3.5, 141)
    optimum = theory.mf_optimum(DEFECTIVE, grid)
    alpha, log_gibbs = finite_n.directional_lsi(DEFECTIVE, 2, 6.0), finite_n.pair_gibbs(DEFECTIVE, grid)
    ratios, naked = [], []
    for k in range(40):
        log_density = finite_n.random_pair_law(rng, grid, log_gibbs if k % 2 else None)
        density = finite_n.normalised_pair(grid, log_density)
        gap = finite_n.pair_objective(DEFECTIVE, grid, density) - optimum.value
        fisher = finite_n.fisher_information(grid, log_density, log_gibbs)
        ratios.append(gap / theory.defective_lsi(DEFECTIVE, 2, alpha, fisher))
        naked.append(gap / (theory.defective_lsi(DEFECTIVE, 2, alpha, fisher) - 4 * 0.5 / 2))
    assert max(ratios) < 0.5 and max(naked) > 1


def test_random_laws_are_finite_far_out():
    log_density = finite_n.random_pair_law(np.random.default_rng(5), theory.ball_grid(40.0, 41))
    assert np.isfinite(log_density).all()
