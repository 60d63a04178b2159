"""State vectors of QAOA against dense matrices, enumeration, finite differences and reference values."""

import inspect
import re
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy.stats import chi2

from theorysim.errors import InputError
from theorysim.kernels import native, qaoa

FALSE_ALARM = 1e-4
"""Probability, over keys, that a chi-square test below rejects right samples; the keys are fixed."""


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["native", "products"])
def form(request, monkeypatch):
    """Both forms of a layer, on this machine if it has a C compiler. Programs traced in one form are of no use to the other."""
    if request.param == "products":
        monkeypatch.setattr(native, "supports", lambda length, dtype: False)
    traced = (evolve, probabilities, walsh_hadamard, one_layer, quadratic)
    for function in traced:
        function.clear_cache()
    yield
    for function in traced:
        function.clear_cache()


both_forms = pytest.mark.usefixtures("form")

evolve = jax.jit(qaoa.evolve, static_argnames="half")
probabilities = jax.jit(qaoa.probabilities, static_argnames="half")
overlap_distribution = jax.jit(qaoa.overlap_distribution, static_argnames="half")
quadratic_costs = jax.jit(qaoa.quadratic_costs, static_argnames="half")
walsh_hadamard = jax.jit(qaoa.walsh_hadamard)
sample = jax.jit(qaoa.sample, static_argnums=2, static_argnames="half")
one_layer = jax.jit(qaoa.layer, static_argnames="half")


@partial(jax.jit, static_argnames="half")
def quadratic(matrix, gammas, betas, half=False):
    """Probabilities and law of the overlap for the cost z^T J z."""
    p = qaoa.probabilities(qaoa.quadratic_costs(matrix, half=half), gammas, betas, half=half)
    return p, qaoa.overlap_distribution(p, half=half)


@jax.jit
def of_tensor(tensor, spike):
    costs = qaoa.walsh_hadamard(qaoa.tensor_coefficients(tensor))
    p = qaoa.probabilities(costs, jnp.array([0.2, 0.3]), jnp.array([0.6, 0.5]))
    return p, qaoa.overlap_distribution(p, spike)


@jax.jit
def costs_and_folded(tensor):
    coefficients = qaoa.tensor_coefficients(tensor)
    return qaoa.walsh_hadamard(coefficients), qaoa.walsh_hadamard(qaoa.fold(coefficients))


# --- references -------------------------------------------------------------------------------------------------------


def dense(costs, gammas, betas):
    """psi on all strings, with the mixer as one matrix of 2^n rows."""
    n = len(costs).bit_length() - 1
    psi = np.full(2**n, 2 ** (-n / 2), complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        mixer = np.ones((1, 1))
        for _ in range(n):
            mixer = np.kron(mixer, [[np.cos(beta), -1j * np.sin(beta)], [-1j * np.sin(beta), np.cos(beta)]])
        psi = mixer @ (np.exp(-1j * gamma * costs) * psi)
    return psi


def qubit_by_qubit(costs, gammas, betas):
    """The same where that matrix would be large."""
    n = len(costs).bit_length() - 1
    psi = np.full(2**n, 2 ** (-n / 2), complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        psi = np.exp(-1j * gamma * costs) * psi
        for j in range(n):
            psi = np.cos(beta) * psi - 1j * np.sin(beta) * psi[np.arange(2**n) ^ (1 << j)]
    return psi


def all_spins(n):
    return np.array([[1 - 2 * (s >> j & 1) for j in range(n)] for s in range(2**n)])


def enumerated(tensor):
    """<T, z^{(x) q}> string by string."""
    values = []
    for z in all_spins(len(tensor)):
        value = tensor
        for _ in range(tensor.ndim):
            value = value @ z
        values.append(value)
    return np.array(values)


def random_angles(p, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=p), rng.normal(size=p)


def random_costs(n, half, seed=0):
    """Costs on all strings, and what the kernel is given: in the half space those with the last spin +1 of an even cost."""
    costs = np.random.default_rng([n, seed]).normal(size=2**n)
    return (costs + costs[::-1], (costs + costs[::-1])[: 2 ** (n - 1)]) if half else (costs, costs)


def reference_instance(n):
    """Seed 0 of NumPy's default generator, signal-to-noise ratio sqrt(n): matrix and angles."""
    W = np.random.default_rng(0).standard_normal((n, n))
    couplings = np.triu((W + W.T + 2) / np.sqrt(n), 1)
    return couplings, np.array([0.24, 0.35, 0.29]), np.array([0.785, 0.6, 0.7])


def second_moment(law):
    return np.asarray(law, float) @ (1 - 2 * np.arange(law.size) / (law.size - 1)) ** 2


# --- costs ------------------------------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("bits", [0, 1, 5, 6, 11])  # up to three groups of qubits
def test_walsh_hadamard(bits):
    values = np.random.default_rng(bits).normal(size=2**bits)
    index = np.arange(2**bits)
    signs = 1 - 2 * (np.bitwise_count(index[:, None] & index) % 2).astype(float)
    transformed = walsh_hadamard(values)
    np.testing.assert_allclose(transformed, signs @ values, rtol=0, atol=1e-14 * 2**bits)
    np.testing.assert_allclose(walsh_hadamard(transformed) / 2**bits, values, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("q", "n"), [(1, 6), (2, 5), (3, 6), (4, 5), (3, 1), (2, 2)])
def test_costs_of_a_tensor(q, n):
    tensor = np.random.default_rng([q, n]).normal(size=(n,) * q)
    costs, folded = costs_and_folded(tensor)
    expected = enumerated(tensor)
    tolerance = 1e-13 * abs(expected).max()
    np.testing.assert_allclose(costs, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(folded, expected[: 2 ** (n - 1)], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("n", "half"), [(1, False), (2, False), (3, False), (6, False), (2, True), (3, True), (7, True)]
)
def test_quadratic_costs(n, half):
    matrix = np.random.default_rng(n).normal(size=(n, n))  # neither symmetric nor free of a diagonal
    expected = enumerated(matrix)[: 2 ** (n - half)]
    np.testing.assert_allclose(quadratic_costs(matrix, half=half), expected, rtol=0, atol=1e-13 * abs(expected).max())


def test_spins_and_popcounts():
    np.testing.assert_array_equal(qaoa.spins(jnp.arange(32), 5), all_spins(5))
    expected = [(s ^ 0b10110).bit_count() for s in range(32)]
    np.testing.assert_array_equal(qaoa.popcounts(32, 0b10110), expected)


# --- evolution --------------------------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize(
    ("n", "half", "p"),
    # in the half space the mixing of the last qubit depends on n mod 4, and a single spin has no other
    [(1, False, 3), (5, False, 1), (6, False, 2), (1, True, 3), (2, True, 3), (3, True, 1), (4, True, 2), (6, True, 3)],
)
def test_amplitudes(n, half, p):
    everywhere, costs = random_costs(n, half)
    angles = random_angles(p)
    expected = dense(everywhere, *angles)[: len(costs)] * np.sqrt(1 + half)
    np.testing.assert_allclose(qaoa.amplitudes(evolve(costs, *angles, half=half)), expected, rtol=0, atol=1e-14)


@both_forms
@pytest.mark.parametrize(("n", "half"), [(11, False), (12, True)])
def test_probabilities_with_groups_of_unequal_size(n, half):
    everywhere, costs = random_costs(n, half)
    angles = random_angles(3)
    expected = np.abs(qubit_by_qubit(everywhere, *angles)[: len(costs)]) ** 2 * (1 + half)
    assert qaoa.mixing_passes(len(costs)) == 3
    np.testing.assert_allclose(probabilities(costs, *angles, half=half), expected, rtol=0, atol=1e-16)


@both_forms
@pytest.mark.parametrize(("n", "half"), [(6, False), (4, True)])
def test_layers_one_by_one(n, half):
    _, costs = random_costs(n, half)
    gammas, betas = random_angles(2)
    state = qaoa.uniform(len(costs), jnp.dtype("float64"))
    for gamma, beta in zip(gammas, betas, strict=True):
        state = one_layer(state, costs, jnp.asarray(gamma), jnp.asarray(beta), half=half)
    for one_by_one, together in zip(state, evolve(costs, gammas, betas, half=half), strict=True):
        np.testing.assert_allclose(one_by_one, together, rtol=0, atol=1e-15)


@both_forms
@pytest.mark.parametrize(("n", "half", "value"), [(18, False, 0.24576086), (20, True, 0.22299066)])
def test_reference_values(n, half, value):
    _, law = quadratic(*reference_instance(n), half=half)
    np.testing.assert_allclose(second_moment(law), value, rtol=0, atol=5e-9)


@both_forms
def test_float32_follows_float64():
    inputs = reference_instance(14)
    (single, law), (alike, law_alike) = (
        quadratic(*(x.astype(dtype) for x in inputs), half=True) for dtype in (np.float32, np.float64)
    )
    assert (single.dtype, alike.dtype) == (np.float32, np.float64)
    assert np.abs(single - alike).sum() < 1e-5
    assert abs(second_moment(law) - second_moment(law_alike)) < 1e-6


@pytest.mark.parametrize("q", [2, 3])
def test_gauge_invariance(q):
    n, rng = 8, np.random.default_rng(q)
    noise, flipped = rng.normal(size=(n,) * q), rng.choice([-1, 1], n)
    mask = int(np.sum((flipped < 0) << np.arange(n)))
    turned = noise
    for axis in range(q):
        turned = turned * flipped.reshape([n if i == axis else 1 for i in range(q)])

    def outcome(noise, spike):
        signal = spike
        for _ in range(q - 1):
            signal = np.multiply.outer(signal, spike)
        return jax.tree.map(np.asarray, of_tensor(signal / n ** (q - 2) + noise / n ** ((q - 1) / 2), spike))

    plain, law = outcome(noise, np.ones(n, int))
    gauged, law_of_gauged = outcome(turned, flipped)
    np.testing.assert_allclose(gauged[np.arange(2**n) ^ mask], plain, rtol=0, atol=1e-15)
    np.testing.assert_allclose(law_of_gauged, law, rtol=0, atol=1e-14)
    _, law_of_half_gauged = outcome(noise, flipped)  # the noise left as it was
    assert abs(law_of_half_gauged - law).max() > 1e-3


def test_a_batch_of_instances():
    costs = np.stack([random_costs(6, False, seed)[1] for seed in range(3)])
    gammas, betas = np.random.default_rng(0).normal(size=(2, 3, 2))
    together = jax.jit(jax.vmap(qaoa.evolve))(costs, gammas, betas)
    alone = [evolve(*one) for one in zip(costs, gammas, betas, strict=True)]
    np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=0, atol=1e-15)


# --- derivatives ------------------------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize(("n", "half", "p"), [(6, False, 2), (4, True, 2), (1, True, 3)])
def test_gradients(n, half, p):
    _, costs = random_costs(n, half)
    inputs = (costs, *random_angles(p))
    weights = np.random.default_rng(1).normal(size=(2, len(costs)))
    value = lambda state: sum(w @ part + w @ part**2 for w, part in zip(weights, state, strict=True))
    gradients = jax.jit(jax.grad(lambda *x: value(qaoa.evolve(*x, half=half)), (0, 1, 2)))(*inputs)
    h = 1e-5
    for i, gradient in enumerate(gradients):
        ahead, behind = (
            [value(evolve(*inputs[:i], inputs[i] + shift, *inputs[i + 1 :], half=half)) for shift in shifts]
            for shifts in (h * np.eye(len(inputs[i])), -h * np.eye(len(inputs[i])))
        )
        # third derivatives times h^2, rounding over h
        np.testing.assert_allclose(gradient, np.subtract(ahead, behind) / (2 * h), rtol=0, atol=2e-9)


# --- what is read off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "half", "last"),
    [(1, False, -1), (5, False, -1), (8, False, 1), (1, True, 1), (2, True, 1), (6, True, 1), (6, True, -1)],
)
def test_overlap_distribution(n, half, last):
    rng = np.random.default_rng(n)
    p = rng.dirichlet(np.ones(2 ** (n - half)))
    everywhere = np.concatenate([p, p[::-1]]) / 2 if half else p
    for spike in [np.append(rng.choice([-1, 1], n - 1), last) for _ in range(3)]:
        expected = np.bincount((all_spins(n) != spike).sum(1), everywhere, n + 1)
        np.testing.assert_allclose(overlap_distribution(p, spike, half=half), expected, rtol=0, atol=1e-15)
    of_ones = overlap_distribution(p, np.ones(n, int), half=half)
    np.testing.assert_allclose(qaoa.overlap_distribution(jnp.asarray(p), half=half), of_ones, rtol=0, atol=1e-15)


def test_cost_distribution():
    rng = np.random.default_rng(0)
    costs, p = rng.integers(-6, 7, 256) / 2, rng.dirichlet(np.ones(256))  # edges themselves occur
    edges = np.array([-2.0, -1.5, 0.0, 0.25, 2.5])
    expected = [p[(costs >= a) & (costs < b)].sum() for a, b in pairwise(edges)]
    np.testing.assert_allclose(qaoa.cost_distribution(*map(jnp.asarray, (p, costs, edges))), expected, atol=1e-15)
    smooth = rng.normal(size=256)
    histogram, edges = np.histogram(smooth, np.linspace(-5, 5, 12), weights=p)
    np.testing.assert_allclose(qaoa.cost_distribution(*map(jnp.asarray, (p, smooth, edges))), histogram, atol=1e-15)


def deviates(strings, p):
    """Whether counts differ from count * p, strings expected less than 20 times being one class."""
    expected, observed = len(strings) * np.asarray(p, float), np.bincount(strings, minlength=len(p))
    if observed[expected == 0].any():
        return True
    often = expected >= 20
    expected, observed = (np.append(x[often], x[~often].sum()) for x in (expected, observed))
    expected, observed = expected[expected > 0], observed[expected > 0]
    return np.sum((observed - expected) ** 2 / expected) > chi2.isf(FALSE_ALARM, len(expected) - 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("half", [False, True])
def test_samples(half, dtype):
    n = 6
    p = np.random.default_rng(1).dirichlet(np.ones(2 ** (n - half)))
    p[:3] = 0
    everywhere = np.concatenate([p, p[::-1]]) / 2 if half else p
    strings = sample(random.key(0), p.astype(dtype), 100_000, half=half)
    assert not deviates(strings, everywhere / everywhere.sum())
    assert deviates(strings, np.full(2**n, 2.0**-n))


def test_samples_of_probabilities_of_all_magnitudes():
    p = 10 ** np.random.default_rng(2).uniform(-12, 0, 2**10)  # they need not sum to one
    strings = sample(random.key(1), p.astype(np.float32), 100_000)
    assert not deviates(strings, p / p.sum())
    assert deviates(strings, np.sqrt(p) / np.sqrt(p).sum())


# --- the program ------------------------------------------------------------------------------------------------------


def shapes(n, p, half=False):
    return [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((2 ** (n - half),), (p,), (p,))]


@pytest.mark.parametrize("half", [False, True])
def test_peak_memory_and_constants(half):
    n = 18
    compiled = jax.jit(partial(qaoa.probabilities, half=half)).lower(*shapes(n, 3, half)).compile()
    memory = compiled.memory_analysis()
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert held <= qaoa.peak_bytes(n, half=half) + 2**15
    constants = re.findall(r"= \w+\[([\d,]*)\]\S* constant\(", compiled.as_text())
    assert constants
    assert max(np.prod([int(size) for size in shape.split(",") if size]) for shape in constants) <= 2**12


@pytest.mark.parametrize("half", [False, True])
def test_depth_enters_neither_the_program_nor_the_memory_of_gradients(half):
    def gradients(p):
        loss = lambda *x: jnp.sum(qaoa.probabilities(*x, half=half) ** 2)
        return jax.jit(jax.grad(loss, (0, 1, 2))).lower(*shapes(10, p, half))

    shallow, deep = gradients(4), gradients(32)
    assert shallow.as_text().count("\n") == deep.as_text().count("\n")
    temporary = [lowered.compile().memory_analysis().temp_size_in_bytes for lowered in (shallow, deep)]
    one_state = 2 * 4 * 2 ** (10 - half)
    assert temporary[1] - temporary[0] < one_state / 4


@pytest.mark.parametrize("in_place", [False, True])
def test_predicted_memory(in_place, monkeypatch):
    monkeypatch.setattr(native, "supports", lambda length, dtype: in_place)
    assert qaoa.peak_bytes(26) == (1 if in_place else 1.5) * 2**30
    assert qaoa.peak_bytes(26, half=True) <= 1.3 * 2**30
    assert qaoa.peak_bytes(20, itemsize=8) == 2 * qaoa.peak_bytes(20) == 4 * qaoa.peak_bytes(20, half=True)
    for half in (False, True):
        for fits in (20, 25):
            available = qaoa.peak_bytes(fits, half=half)
            qaoa.require_memory(fits, available, half=half)
            with pytest.raises(InputError, match=f"n must be at most {fits}$"):
                qaoa.require_memory(fits + 1, 1.9 * available, half=half)


# --- bad input --------------------------------------------------------------------------------------------------------


def without_checks(function):
    """Without the shape checks of the test run, which come first."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: qaoa.walsh_hadamard(jnp.ones(6)),
            "values must be a vector whose length is a power of two, got shape (6,)",
        ),
        (
            lambda: evolve(jnp.ones(3), jnp.ones(1), jnp.ones(1)),
            "costs must be a vector whose length is a power of two",
        ),
        (
            lambda: without_checks(qaoa.evolve)(jnp.ones(4), jnp.ones(2), jnp.ones(3)),
            "gammas and betas must be vectors of equal length, got shapes (2,) and (3,)",
        ),
        (
            lambda: evolve(jnp.ones(4), jnp.ones(0), jnp.ones(0)),
            "gammas and betas must hold one layer or more, got none",
        ),
        (
            lambda: jax.eval_shape(qaoa.evolve, jax.ShapeDtypeStruct((2**32,), np.float32), *shapes(1, 1)[1:]),
            "n must be at most 31, got 32",
        ),
        (
            lambda: jax.eval_shape(
                partial(qaoa.evolve, half=True), jax.ShapeDtypeStruct((2**31,), np.float32), *shapes(1, 1)[1:]
            ),
            "n must be at most 31, got 32",
        ),
        (lambda: qaoa.quadratic_costs(jnp.ones((32, 32))), "n must be between 1 and 31, got 32"),
        (lambda: qaoa.quadratic_costs(jnp.ones((1, 1)), half=True), "n must be between 2 and 31, got 1"),
        (lambda: qaoa.tensor_coefficients(jnp.ones((3, 4, 3))), "tensor must have shape (n,) * q, got (3, 4, 3)"),
        (lambda: qaoa.tensor_coefficients(jnp.ones(())), "tensor must have shape (n,) * q, got ()"),
        (lambda: qaoa.tensor_coefficients(jnp.ones((32, 32))), "n must be between 1 and 31, got 32"),
        (lambda: qaoa.fold(jnp.ones(1)), "coefficients of one spin or more are needed, got 1"),
        (lambda: overlap_distribution(jnp.ones(8), jnp.ones(4, int)), "spike must have shape (3,), got (4,)"),
        (
            lambda: overlap_distribution(jnp.ones(8), jnp.ones(3, int), half=True),
            "spike must have shape (4,), got (3,)",
        ),
        (lambda: sample(random.key(0), jnp.ones(8), 0), "count must be at least 1, got 0"),
        (
            lambda: qaoa.require_memory(28, 3e9, half=False),
            "n = 28 needs 6 GiB at 32 bits, more than the 2.79 GiB there are: n must be at most 26",
        ),
    ],
)
def test_bad_input(call, message, monkeypatch):
    monkeypatch.setattr(native, "supports", lambda length, dtype: False)  # more memory is needed then
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
