"""The C kernels against JAX's own operations, for every instruction set at hand, and what happens where they cannot be had."""

import os
import platform
import shutil
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from theorysim.kernels import native, qaoa

PROCESSORS = {"this": None} | ({"avx2": ("-march=haswell",)} if platform.machine() == "x86_64" else {})
"""Options of the compiler; None: those for the processor at hand."""

needs_a_compiler = pytest.mark.skipif(
    not any(map(shutil.which, native.COMPILERS)), reason="there is no C compiler, so that JAX's own operations are used"
)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=PROCESSORS)
def variant(request, monkeypatch):
    """The module with its functions compiled for this processor."""
    if PROCESSORS[request.param] is not None:
        registered = {
            np.dtype(dtype): native.register(np.dtype(dtype), PROCESSORS[request.param], prefix=request.param)
            for dtype in (np.float32, np.float64)
        }
        monkeypatch.setattr(native, "_functions", registered.get)
        monkeypatch.setattr(native, "PREFIX", request.param)
    assert all(native.supports(2**5, dtype) for dtype in (np.float32, np.float64))
    return native


def random_layer(bits, dtype, beta, seed=0):
    """Real and imaginary part of a state, costs, gamma, beta."""
    keys = random.split(random.key(seed), 3)
    parts = (random.normal(key, (2**bits,), dtype) / 2 ** ((bits + 1) / 2) for key in keys[:2])
    costs = 30 * random.normal(keys[2], (2**bits,), dtype)
    return *parts, costs, jnp.asarray(0.7, dtype), jnp.asarray(beta, dtype)


def mixed(phi, beta, half):
    """The rotations of all qubits on phi = real + i imag, qubit by qubit."""
    bits = phi.size.bit_length() - 1
    for j in range(bits):
        x, y = np.moveaxis(phi.reshape(-1, 2, 2**j), 1, 0)
        phi = np.stack([np.cos(beta) * x - np.sin(beta) * y, np.sin(beta) * x + np.cos(beta) * y], 1).ravel()
    return np.cos(beta) * phi + np.sin(beta) * last_generator(phi) if half else phi


def last_generator(phi):
    signs = 1 - 2.0 * (np.bitwise_count(np.arange(phi.size, dtype=np.uint32)) % 2)
    return signs * (-1j) ** phi.size.bit_length() * phi[::-1]


def generator(phi, half):
    """The derivative of `mixed` in beta at zero."""
    found = last_generator(phi) if half else np.zeros_like(phi)
    for j in range(phi.size.bit_length() - 1):
        x, y = np.moveaxis(phi.reshape(-1, 2, 2**j), 1, 0)
        found += np.stack([-y, x], 1).ravel()
    return found


def in_double(real, imag, *rest):
    """phi, costs, gamma, beta."""
    phi = np.asarray(real, np.float64) + 1j * np.asarray(imag, np.float64)
    return phi, *(np.asarray(x, np.float64) for x in rest)


def furthest(found, expected, bits):
    """Largest error of an amplitude, given as parts, relative to the root mean square of all."""
    return float(np.abs(np.asarray(found[0], complex) + 1j * np.asarray(found[1]) - expected).max()) * 2 ** (bits / 2)


TOLERANCE = {np.float32: 2e-5, np.float64: 5e-14}
"""Of amplitudes up to five times their root mean square, after as many roundings as there are qubits."""

BETAS = (0.3, 1.3, np.pi / 2, -2.5)
SIZES = (5, 12, 14, 17)
"""From one pair of vectors to a block, several blocks, and groups of bits above them."""


@needs_a_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("bits", SIZES)
def test_layers_and_adjoints(variant, bits, half, dtype):
    """A layer; from its result and a cotangent back to its argument and the cotangent of that; derivatives in both angles."""
    for turn in BETAS:
        agree(variant, bits, half, dtype, turn)


@needs_a_compiler
@pytest.mark.parametrize("half", [False, True])
def test_groups_of_bits(variant, half):
    """Above the blocks more bits than are taken at a time in registers."""
    agree(variant, 20, half, np.float64, 0.6)


def agree(variant, bits, half, dtype, turn):
    layer, adjoint = jax.jit(partial(variant.layer, half=half)), jax.jit(partial(variant.adjoint, half=half))
    *state, costs, gamma, beta = random_layer(bits, dtype, turn)
    *cotangent, _, _, _ = random_layer(bits, dtype, 0.0, seed=1)
    result = layer(*state, costs, gamma, beta)
    *arrays, of_gamma, of_beta = adjoint(*result, *cotangent, costs, gamma, beta)

    phi, C, angle, turn = in_double(*state, costs, gamma, beta)
    (g,) = in_double(*cotangent)
    after = mixed(np.exp(-1j * angle * C) * phi, turn, half)
    assert furthest(result, after, bits) < TOLERANCE[dtype]
    assert furthest(arrays[:2], phi, bits) < TOLERANCE[dtype]
    assert furthest(arrays[2:], np.exp(1j * angle * C) * mixed(g, -turn, half), bits) < TOLERANCE[dtype]
    # sums over N strings of products of mean square 1/N^2: of costs for gamma, of as many terms as qubits for beta
    change = mixed(-1j * C * np.exp(-1j * angle * C) * phi, turn, half)
    assert abs(of_gamma - np.vdot(g, change).real) < 30 * TOLERANCE[dtype]
    assert abs(of_beta - np.vdot(g, generator(after, half)).real) < (bits + half) * TOLERANCE[dtype]


@needs_a_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("bits", "half"), [(19, False), (21, True), (25, True)])
def test_large_layers(variant, bits, half):
    *state, costs, gamma, beta = random_layer(bits, np.float32, 0.6)
    result = jax.jit(partial(variant.layer, half=half))(*state, costs, gamma, beta)
    phi, C, angle, turn = in_double(*state, costs, gamma, beta)
    assert furthest(result, mixed(np.exp(-1j * angle * C) * phi, turn, half), bits) < TOLERANCE[np.float32]
    arrays = jax.jit(partial(variant.adjoint, half=half))(*result, *result, costs, gamma, beta)
    assert furthest(arrays[:2], phi, bits) < TOLERANCE[np.float32]
    assert furthest(arrays[2:4], phi, bits) < TOLERANCE[np.float32]
    # of |phi|^2, which no angle changes
    assert abs(arrays[4]) < 30 * TOLERANCE[np.float32] and abs(arrays[5]) < bits * TOLERANCE[np.float32]


@needs_a_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bits", SIZES)
def test_walsh_hadamard(variant, bits, dtype):
    values = random.normal(random.key(0), (2**bits,), dtype)
    found = jax.jit(variant.walsh_hadamard)(values)
    expected = np.asarray(values, np.float64)
    for j in range(bits):
        x, y = np.moveaxis(expected.reshape(-1, 2, 2**j), 1, 0)
        expected = np.stack([x + y, x - y], 1).ravel()
    assert np.abs(found - expected).max() < TOLERANCE[dtype] * 2 ** (bits / 2)


@needs_a_compiler
def test_the_norm_is_kept_in_single_precision(variant):
    """The rounding of slopes does not add up over qubits."""
    *state, costs, gamma, beta = random_layer(12, np.float32, 0.37)
    layer = lambda _, state: variant.layer(*state, costs, gamma, beta, half=True)
    layers = jax.jit(lambda state: jax.lax.fori_loop(0, 2000, layer, tuple(state)))
    before, after = (np.sum(np.square(np.concatenate(s).astype(np.float64))) for s in (state, layers(state)))
    assert abs(after / before - 1) < 2000 * 1.2e-7  # the factor of all qubits is rounded once a layer


@needs_a_compiler
def test_phases_of_large_costs(variant):
    """gamma C up to 10^6 (double) and 2 10^4 (single), where quadrants and table entries are far from zero."""
    for dtype, largest in ((np.float64, 1e6), (np.float32, 2e4)):
        costs = jnp.linspace(-largest, largest, 2**10, dtype=dtype)
        ones = jnp.ones(2**10, dtype)
        real, imag = variant.layer(ones, 0 * ones, costs, jnp.ones((), dtype), jnp.zeros((), dtype), half=False)
        exact = np.exp(-1j * np.asarray(costs, np.float64))
        assert np.abs(np.asarray(real) + 1j * np.asarray(imag) - exact).max() < 4 * np.finfo(dtype).eps, dtype


@needs_a_compiler
def test_not_a_number_stays(variant):
    real, imag, costs, gamma, beta = random_layer(7, np.float32, 0.4)
    layer = jax.jit(partial(variant.layer, half=False))
    for bad in (jnp.nan, jnp.inf):
        for arguments in (
            (real.at[3].set(bad), imag, costs, gamma, beta),
            (real, imag, costs.at[3].set(bad), gamma, beta),
            (real, imag, costs, gamma * bad, beta),
            (real, imag, costs, gamma, beta * bad),
        ):
            assert not any(np.isfinite(np.asarray(part)).any() for part in layer(*arguments))


@needs_a_compiler
@pytest.mark.parametrize("bits", [6, 16])
def test_batches(variant, bits):
    """Any argument may be mapped, twice too; no sample depends on its neighbours, to the bit."""
    layer = partial(variant.layer, half=True)
    arguments = jax.vmap(lambda seed: random_layer(bits, np.float32, 0.3 + seed, seed))(jnp.arange(3))
    real, imag, costs, gammas, betas = arguments
    for mapped in ([1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [1, 1, 0, 0, 1], [0, 1, 0, 0, 0]):
        given = tuple(a if m else a[0] for a, m in zip(arguments, mapped, strict=True))
        found = jax.jit(jax.vmap(layer, in_axes=tuple(0 if m else None for m in mapped)))(*given)
        for i in range(3):
            single = jax.jit(layer)(*(a[i] if m else a for a, m in zip(given, mapped, strict=True)))
            assert all(np.array_equal(x[i], y) for x, y in zip(found, single, strict=True)), mapped
    both = jnp.stack([costs, costs + 1, costs + 2])
    grid = jax.jit(jax.vmap(jax.vmap(layer, in_axes=(None, None, 0, 0, None)), in_axes=(0, 0, 0, None, 0)))
    found = grid(real, imag, both, gammas, betas)
    assert found[0].shape == (3, 3, 2**bits)
    for i, j in ((0, 0), (1, 0), (2, 1), (1, 2)):
        twice = jax.jit(layer)(real[i], imag[i], both[i, j], gammas[j], betas[i])
        assert all(np.array_equal(x[i, j], y) for x, y in zip(found, twice, strict=True))


@needs_a_compiler
def test_rounding_depends_on_no_thread(tmp_path):
    """The same bits in a process that has one processor."""
    code = (
        "import os, sys, hashlib\n"
        "if sys.argv[1] == '1': os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "import jax, jax.numpy as jnp\n"
        "from theorysim.kernels import native, qaoa\n"
        "assert native.supports(2**18, jnp.float32)\n"
        "costs = jax.random.normal(jax.random.key(0), (2**18,))\n"
        "p = jax.jit(lambda c: qaoa.probabilities(c, jnp.array([.3, .4]), jnp.array([.5, 1.])))(costs)\n"
        "print(hashlib.sha256(jax.device_get(p).tobytes()).hexdigest())\n"
    )
    run = lambda number: (
        subprocess.run([sys.executable, "-c", code, number], check=True, capture_output=True, text=True).stdout
    )
    assert len({run("1"), run("all")}) == 1


@pytest.mark.parametrize(
    "compiler", [pytest.param("", marks=needs_a_compiler), pytest.param("/no/compiler", marks=pytest.mark.slow)]
)
def test_instances_on_several_devices(compiler):
    """Instances placed on devices stay there, with and without `shard_map`, and gradients too."""
    code = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from theorysim.kernels import qaoa
mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
angles = jnp.array([[0.3, 0.4], [0.5, 0.2]])
energy = lambda angles, costs: qaoa.probabilities(costs, *angles) @ costs
both = jax.vmap(jax.value_and_grad(energy))
angles = jnp.stack([angles] * 8)
costs = jax.random.normal(jax.random.key(0), (8, 2**9))
expected = both(angles, costs)
angles, costs = jax.device_put((angles, costs), NamedSharding(mesh, P("i")))
program = jax.jit(both).lower(angles, costs).compile()
assert "all-gather" not in program.as_text()
mapped = jax.jit(jax.shard_map(both, mesh=mesh, in_specs=P("i"), out_specs=P("i")))
for found in (program(angles, costs), mapped(angles, costs)):
    for x, y in zip(found, expected):
        assert x.sharding.spec[0] == "i" and jnp.abs(x - y).max() < 1e-5
"""
    settings = (
        os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"} | ({"CC": compiler} if compiler else {})
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=settings)


def test_without_a_compiler(tmp_path):
    """JAX's own operations take over without a word, and give the same."""
    code = (
        "import jax.numpy as jnp\n"
        "from theorysim.kernels import native, qaoa\n"
        "assert not native.supports(2**10, jnp.float32)\n"
        "p = qaoa.probabilities(jnp.linspace(-3, 3, 2**10), jnp.array([.3, .4]), jnp.array([.5, 1.]))\n"
        "print(float(p @ jnp.arange(2**10)))\n"
    )
    with jax.enable_x64(False):
        p = qaoa.probabilities(jnp.linspace(-3, 3, 2**10), jnp.array([0.3, 0.4]), jnp.array([0.5, 1.0]))
        expected = float(p @ jnp.arange(2**10))
    (tmp_path / "file").touch()
    (tmp_path / "cc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    for settings in (
        {"CC": str(tmp_path / "none")},
        {"CC": str(tmp_path / "cc"), "THEORYSIM_CACHE": str(tmp_path / "cache")},  # it fails
        {"THEORYSIM_CACHE": str(tmp_path / "file")},  # nowhere to write
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | settings, check=True, capture_output=True, text=True
        )
        assert float(ran.stdout) == pytest.approx(expected, rel=1e-5) and not ran.stderr


@needs_a_compiler
def test_damaged_libraries_are_made_anew(tmp_path):
    code = "import jax.numpy as jnp\nfrom theorysim.kernels import native\nassert native.supports(2**10, jnp.float32)"
    settings = os.environ | {"THEORYSIM_CACHE": str(tmp_path)}
    run = lambda: subprocess.run([sys.executable, "-c", code], check=True, env=settings)
    run()
    (kept,) = (tmp_path / "native").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    run()
    assert [path.read_bytes() for path in (tmp_path / "native").iterdir()] == [whole]
