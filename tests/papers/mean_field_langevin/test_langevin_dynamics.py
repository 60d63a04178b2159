"""The chain with its 1/N terms, the mean-field flow and relaxation rates against brute force, limits and reference values."""

import numpy as np
import pytest
from scipy.integrate import quad
from threadpoolctl import threadpool_limits

from theorysim.errors import InputError
from theorysim.papers.mean_field_langevin.theory import dynamics
from theorysim.papers.mean_field_langevin.theory import mean_field as theory
from theorysim.papers.mean_field_langevin.theory.mean_field import TANH, Model


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


# --- the chain --------------------------------------------------------------------------------------------------------

TRAJECTORY = {
    1: ("0.804694", "0.118882", "0.025324"),
    5: ("0.547171", "0.264004", "0.088804"),
    10: ("0.342412", "0.251175", "0.085114"),
    20: ("0.160972", "0.160132", "0.077953"),
    40: ("0.059324", "0.088664", "0.050990"),
    80: ("0.023293", "0.073645", "0.007458"),
    160: ("0.015088", "0.073158", "-0.004654"),
    300: ("0.014419", "0.073201", "-0.005758"),
}


def test_trajectory_reference():
    """241 nodes on [-5, 5], four spacings to a step's noise: the digits of finer grids."""
    grid = theory.ball_grid(5.0, 241)
    chain = dynamics.make_chain(theory.tanh1d(), grid, 0.2)
    state, trace = dynamics.chain_run(chain, theory.normal_density(grid, 1.0, 0.25), 300, column(2.0))
    for k, reference in TRAJECTORY.items():
        close([part[k, 0] for part in trace], *reference)
    final = dynamics.chain_stationary(chain)
    for a, b in zip(state, final, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)
    after = dynamics.chain_step(chain, final)
    for a, b in zip(after, final, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    assert np.abs(final.covariance.sum(0)).max() < 1e-12 and abs(final.bias.sum()) < 1e-12


def test_first_step_of_many_neurons_by_brute_force():
    """Logistic loss, independent neurons at two nodes: exact averages over the binomial count, extrapolated in 1/N."""
    model, eta, z = theory.tanhlog(), 0.4, column(3.0)
    grid = theory.ball_grid(5.0, 121)
    chain = dynamics.make_chain(model, grid, eta)
    density = np.zeros(121)
    left, right, share = 45, 82, 0.3
    density[left], density[right] = share, 1 - share
    state = dynamics.chain_step(chain, dynamics.chain_start(density / grid.spacing))
    output = dynamics.chain_outputs(chain, state, z)
    x, F = grid.line, np.tanh(3.0 * grid.line)

    def averages(size):
        """E h and N Var h after one step of N neurons."""
        count = np.arange(size + 1)
        log_factorial = np.append(0.0, np.cumsum(np.log(np.arange(1, size + 1))))
        log_p = log_factorial[-1] - log_factorial - log_factorial[::-1]
        p = np.exp(log_p + count * np.log(share) + (size - count) * np.log(1 - share))
        mean, second = np.zeros(size + 1), np.zeros(size + 1)
        for k in count:
            u = (k * chain.features[left] + (size - k) * chain.features[right]) / size
            g = model.loss.slope(u, model.y) / model.n
            for node, number in ((left, k), (right, size - k)):
                centre = x[node] - eta * (chain.slopes[node] @ g + 2 * model.lamp * x[node])
                law = np.exp(-((x - centre) ** 2) / (4 * model.lam * eta))
                law /= law.sum()
                mean[k] += number / size * (law @ F)
                second[k] += number / size**2 * (law @ F**2 - (law @ F) ** 2)
        total = p @ mean
        return total, size * (p @ (second + mean**2) - total**2)

    (half, half_variance), (full, full_variance) = averages(400), averages(800)
    # Richardson in 1/N: N (E h - value) and N Var are polynomials in 1/N up to higher orders
    bias = 2 * 800 * (full - output.value[0]) - 400 * (half - output.value[0])
    assert output.bias[0] == pytest.approx(bias, rel=2e-5)
    assert output.variance[0] == pytest.approx(2 * full_variance - half_variance, rel=2e-6)


def test_stationary_chain_tends_to_the_gibbs_law():
    """Logistic loss: extrapolated to step size 0, variances and biases are those of P*, to first order in 1/N."""
    model, z, grid = theory.tanhlog(), column(0.7, 2.0, 3.0), theory.ball_grid(5.0, 301)
    limit = theory.predict(theory.mf_optimum(model), z)
    found = []
    for eta in (0.2, 0.1):
        chain = dynamics.make_chain(model, grid, eta)
        found.append(dynamics.chain_outputs(chain, dynamics.chain_stationary(chain), z))
    np.testing.assert_allclose(2 * found[1].variance - found[0].variance, limit.variance, rtol=1.2e-3)
    np.testing.assert_allclose(2 * found[1].bias - found[0].bias, limit.bias, rtol=1e-3)


def test_step_size_bias():
    """(h_{mu_eta} - h*)/eta at eta = 0.2, 0.1, 0.05 and its extrapolation."""
    z, model = column(0.7, 2.0, 3.0), theory.tanh1d()
    optimum = theory.mf_optimum(model)
    value, beta, found = theory.predict(optimum, z).value, theory.step_size_bias(optimum, z), {}
    references = {
        0.2: ("-0.00440", "0.00924", "0.02132"),
        0.1: ("-0.00450", "0.00899", "0.02103"),
        0.05: ("-0.00454", "0.00887", "0.02088"),
    }
    for eta, reference in references.items():
        half = int(np.ceil(5.5 / (np.sqrt(2 * model.lam * eta) / 3)))
        grid = theory.ball_grid(5.5, 2 * half + 1)
        mass = dynamics.stationary_mass(dynamics.make_chain(model, grid, eta))
        found[eta] = (mass @ model.features(grid.nodes, z) - value) / eta
        close(found[eta], *reference)
    np.testing.assert_allclose(2 * found[0.05] - found[0.1], beta, rtol=4e-4)


def test_chain_rejects():
    model, grid = theory.tanh1d(), theory.ball_grid(6.0, 81)
    with pytest.raises(InputError, match="spacing must be at most"):
        dynamics.make_chain(model, grid, 0.2)
    with pytest.raises(InputError, match="step size eta must be positive"):
        dynamics.make_chain(model, grid, 0.0)
    with pytest.raises(InputError, match="model must have d = 1"):
        dynamics.make_chain(theory.gauss(), grid, 0.2)
    with pytest.raises(InputError, match="a gradient"):
        user = theory.Neuron(lambda x, z: np.cos(x[..., 0] * z[..., 0]), 1.0)
        dynamics.make_chain(Model(user, column(1.0), np.ones(1), 0.5, 0.1), grid, 1.0)


# --- the flow ---------------------------------------------------------------------------------------------------------

CONVEX = Model(TANH, column(0.5, 0.8), np.array([0.5, -0.4]), 0.1, 0.4)


@pytest.mark.parametrize(
    "mean, variance, early, later, control",
    [(1.5, 0.09, 0.950, 0.277, 3.4), (-1.0, 1.0, 0.940, 0.237, 1.7), (0.0, 0.01, 0.672, 0.023, 1.0)],
)
def test_exponential_bound(mean, variance, early, later, control):
    grid = theory.ball_grid(5.0, 801)
    optimum, alpha = theory.mf_optimum(CONVEX, grid), theory.tanh_lsi(CONVEX)
    flow = dynamics.flow(CONVEX, grid, theory.normal_density(grid, mean, variance), 0.005, 1200)
    gap = flow.objective - optimum.value
    ratio = gap / theory.exponential_bound(CONVEX, alpha, flow.time, gap[0])
    np.testing.assert_allclose(ratio[[10, 200]], [early, later], atol=1e-3)  # the step in time costs 1e-3 to 2e-3
    assert (ratio <= 1).all() and (np.diff(flow.objective) <= 1e-15).all()
    fast = gap / theory.exponential_bound(CONVEX, 4 * alpha, flow.time, gap[0])
    assert fast.max() == pytest.approx(control, abs=0.06)


def test_flow_keeps_mass_and_equilibrium():
    grid = theory.ball_grid(6.0, 401)
    optimum = theory.mf_optimum(theory.tanhlog(), grid)
    flow = dynamics.flow(optimum.model, grid, optimum.density, 0.1, 50)
    np.testing.assert_allclose(flow.density, optimum.density, atol=1e-13)
    assert np.abs(flow.outputs - optimum.u).max() < 1e-13
    flow = dynamics.flow(optimum.model, grid, theory.normal_density(grid, 1.0, 0.3), 0.1, 50)
    assert flow.density.sum() * grid.weight == pytest.approx(1, abs=1e-12) and flow.density.min() >= 0
    first = theory.objective(optimum.model, grid, theory.normal_density(grid, 1.0, 0.3))
    assert flow.objective[0] == pytest.approx(first, abs=1e-13)


def test_flow_without_data_is_ornstein_uhlenbeck():
    """h = 0: the mean decays with 2 lamp, the variance relaxes to lam/(2 lamp) with 4 lamp."""
    silent = theory.Neuron(lambda x, z: 0 * (x * z)[..., 0], 0.0)
    model, grid = Model(silent, column(1.0), np.zeros(1), 0.2, 0.3), theory.ball_grid(6.0, 1201)
    flow = dynamics.flow(model, grid, theory.normal_density(grid, 1.0, 0.1), 0.002, 500)
    mean = grid.line @ flow.density * grid.weight
    variance = (grid.line - mean) ** 2 @ flow.density * grid.weight
    assert mean == pytest.approx(np.exp(-0.6), rel=1e-3)
    assert variance == pytest.approx(1 / 3 + (0.1 - 1 / 3) * np.exp(-1.2), rel=1e-3)


def test_decay_rate_of_the_flow():
    """Local rate of L(mu_t) - L(mu*) over t in [24, 40]: 2 gap_MF, far from 2 gap_0."""
    grid = theory.ball_grid(6.0, 601)
    optimum = theory.mf_optimum(theory.tanh1d(), grid)
    flow = dynamics.flow(optimum.model, grid, theory.normal_density(grid, 1.0, 0.25), 0.02, 2000)
    gap = flow.objective - optimum.value
    rate = np.log(gap[1200] / gap[2000]) / 16
    spectrum = dynamics.relaxation(optimum)
    assert rate == pytest.approx(0.2982, abs=5e-4)
    assert rate == pytest.approx(2 * spectrum.mean_field[0], rel=3e-3)
    assert rate > 3 * 2 * spectrum.frozen[0]


# --- relaxation rates -------------------------------------------------------------------------------------------------


def test_spectrum_reference():
    for count, reference in ((601, "0.1494064"), (1201, "0.1494161"), (2401, "0.1494185")):
        spectrum = dynamics.relaxation(theory.mf_optimum(theory.tanh1d(), theory.ball_grid(6.0, count)))
        close(spectrum.mean_field[0], reference)
    close(spectrum.frozen[:2], "0.043532", "0.25315")
    close(spectrum.mean_field[1], "0.31047")


@pytest.mark.parametrize("model", [theory.tanh1d(), theory.tanhlog(), theory.rbf(0.1)], ids=["tanh", "log", "rbf"])
def test_spectrum_by_dense_matrices(model):
    """-A (I + Pi) written out as a matrix on functions, by its rates and its projection."""
    grid = theory.ball_grid(8.0, 201)
    optimum = theory.mf_optimum(model, grid)
    potential = model.potential(grid.nodes, model.loss.slope(optimum.u, model.y)) / model.lam
    v = np.diff(potential)
    to_right, to_left = (model.lam / grid.spacing**2 * w / np.expm1(w) for w in (v, -v))
    generator = np.diag(to_right, 1) + np.diag(to_left, -1)
    generator -= np.diag(generator.sum(1))
    p = optimum.density * grid.weight
    projection = (optimum.features * optimum.D) @ (optimum.features * p[:, None]).T / (model.lam * model.n)
    mean_field = np.sort(np.linalg.eigvals(-generator @ (np.eye(201) + projection)).real)
    frozen = np.sort(np.linalg.eigvals(-generator).real)
    spectrum = dynamics.relaxation(optimum, 3)
    np.testing.assert_allclose(spectrum.mean_field, mean_field[1:4], rtol=1e-7)
    np.testing.assert_allclose(spectrum.frozen, frozen[1:4], rtol=1e-7)
    assert (spectrum.mean_field >= spectrum.frozen - 1e-12).all()


@pytest.mark.parametrize(
    "lam, reference",
    [
        (0.2, "0.29277"),
        (0.1, "0.41278"),
        (0.05, "0.37539"),
        (0.02, "0.14716"),
        (0.01, "0.018718"),
        (0.005, "0.00015213"),
    ],
)
def test_poincare_reference(lam, reference):
    close(dynamics.poincare(theory.mf_optimum(theory.rbf(lam))), reference)


def test_spectrum_on_a_coarse_steep_grid():
    """Rates uphill far below rounding of those downhill."""
    spectrum = dynamics.relaxation(theory.mf_optimum(theory.tanh1d(), theory.ball_grid(40.0, 81)))
    assert np.isfinite(spectrum.mean_field).all() and (spectrum.frozen > 0).all()


def test_poincare_of_normal_and_bistable_laws():
    silent = theory.Neuron(lambda x, z: 0 * (x * z)[..., 0], 0.0)
    normal = theory.mf_optimum(Model(silent, column(1.0), np.zeros(1), 0.2, 0.3), theory.ball_grid(6.0, 2001))
    assert dynamics.poincare(normal) == pytest.approx(0.6 / 0.2, rel=3e-5)
    # Two wells: Kramers' rate from the exact mean first passage, (int_0^1 e^{V}) (int e^{-V}), within its own small correction
    optimum = theory.mf_optimum(theory.rbf(0.005))
    g = optimum.u - optimum.model.y
    wells = [-1.5, 1.5]

    def V(x):
        return (0.02 * x**2 + sum(g * [np.exp(-((x - z) ** 2) / 2) for z in wells]) / 2) / 0.005

    norm = quad(lambda x: np.exp(-V(x) + V(1.5)), -3, 3, points=[-1.5, 1.5], limit=200)[0]
    barrier = quad(lambda x: np.exp(V(x) - V(1.5)), -1.3, 1.3, points=[0.0])[0]
    assert dynamics.poincare(optimum) == pytest.approx(4 / (norm * barrier), rel=0.01)
