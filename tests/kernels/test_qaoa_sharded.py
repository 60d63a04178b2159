"""The sharded state vector on four and eight virtual devices, and in two processes, against the state vector of one device."""

import os
import socket
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qaoa_sharded_worker as worker
from jax.sharding import AbstractMesh, AxisType, Mesh

from theorysim.errors import InputError
from theorysim.kernels import qaoa, qaoa_sharded

SECONDS = 120  # far beyond what a worker takes, on a busy machine too


def start(file, *arguments):
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    thresholds = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    command = [sys.executable, worker.__file__, str(file), *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": "", **cache, **thresholds}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outputs(processes):
    """What all of them print; none outlives this call."""
    try:
        return [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    file = tmp_path_factory.mktemp("one") / "results.npz"
    process = start(file, 8)
    (printed,) = outputs([process])
    assert process.returncode == 0, printed
    return np.load(file)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = [start(folder / f"{i}.npz", 2, port, 2, i) for i in range(2)]
        printed = "\n".join(outputs(processes))
        if not any(process.returncode for process in processes):
            return [np.load(folder / f"{i}.npz") for i in range(2)]
        if "in use" not in printed:  # another process may have taken the port meanwhile
            break
    return pytest.fail(printed)


@partial(jax.jit, static_argnums=3)
def on_one_device(tensor, gammas, betas, half):
    if tensor.ndim == 2:
        costs = qaoa.quadratic_costs(tensor, half=half)
    else:
        coefficients = qaoa.tensor_coefficients(tensor)
        costs = qaoa.walsh_hadamard(qaoa.fold(coefficients) if half else coefficients)
    return costs, qaoa.probabilities(costs, gammas, betas, half=half)


def counted(probabilities, spike, half):
    """Law of the number of spins that differ from the spike, string by string."""
    everywhere = np.concatenate([probabilities, probabilities[::-1]]) / 2 if half else probabilities
    mask = int(np.sum((spike < 0) << np.arange(len(spike))))
    return np.bincount(np.bitwise_count(np.arange(len(everywhere)) ^ mask), everywhere, len(spike) + 1)


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14 * abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", worker.CASES)
def test_devices_together_give_what_one_gives(name, one_process):
    case = worker.CASES[name]
    *inputs, spike = case.instance()
    with jax.enable_x64(True):
        costs, probabilities = map(np.asarray, on_one_device(*inputs, case.half))
    close(one_process[f"{name}/costs"], costs)
    close(one_process[f"{name}/probabilities"], probabilities)
    close(one_process[f"{name}/law"], counted(probabilities, spike, case.half))


@pytest.mark.parametrize("name", worker.CASES)
def test_a_layer_costs_one_exchange(name, one_process):
    # one in the body of the loop over layers, one that exchanges the costs beforehand
    exchanges, permutations, gathers = one_process[f"{name}/collectives"]
    assert (exchanges, permutations, gathers) == (2, 0, 0)


@pytest.mark.parametrize("name", worker.IN_PROCESSES)
def test_processes_together_give_what_one_gives(name, one_process, two_processes):
    for kind in ("costs", "probabilities"):
        first, second = (results[f"{name}/{kind}"] for results in two_processes)
        half = len(first) // 2  # each process holds the strings of its own devices, and nothing else
        assert np.isnan(first[half:]).all()
        assert np.isnan(second[:half]).all()
        together = np.concatenate([first[:half], second[half:]])
        np.testing.assert_allclose(together, one_process[f"{name}/{kind}"], rtol=1e-12, atol=1e-17)
    for results in two_processes:
        np.testing.assert_allclose(results[f"{name}/law"], one_process[f"{name}/law"], rtol=1e-13)


def test_a_batch_of_instances(one_process):
    for i in range(2):
        *inputs, spike = worker.BATCH.instance(i)
        with jax.enable_x64(True):
            _, probabilities = map(np.asarray, on_one_device(*inputs, worker.BATCH.half))
        close(one_process["batch/probabilities"][i], probabilities)
        close(one_process["batch/law"][i], counted(probabilities, spike, worker.BATCH.half))


def test_derivatives():
    n, p, half = 5, 3, True
    tensor, gammas, betas, _ = worker.Case(1, n, 2, p, half).instance()
    where = {"mesh": Mesh(np.array(jax.devices()[:1]), ("strings",)), "axis": "strings", "half": half}
    weights = np.random.default_rng(0).normal(size=2 ** (n - half))

    @jax.jit
    def both(*inputs):
        sharded = lambda t, *angles: qaoa_sharded.probabilities(qaoa_sharded.tensor_costs(t, **where), *angles, **where)
        alone = lambda t, *angles: on_one_device(t, *angles, half)[1]
        return [jax.grad(lambda *x, f=f: weights @ f(*x), (0, 1, 2))(*inputs) for f in (sharded, alone)]

    with jax.enable_x64(True):
        for ours, expected in zip(*both(tensor, gammas, betas), strict=True):
            close(ours, expected)


def traced(function, *shapes, devices=4, axis="strings", **options):
    """The program on that many devices, which are not needed to trace it."""
    mesh = AbstractMesh((devices,), ("strings",), axis_types=(AxisType.Auto,))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.make_jaxpr(partial(function, mesh=mesh, axis=axis, **options))(*arrays)


@pytest.mark.parametrize("half", [False, True])
def test_depth_does_not_enter_the_program(half):
    sizes = [len(traced(qaoa_sharded.probabilities, (2**9,), (p,), (p,), half=half).eqns) for p in (4, 64)]
    text = [str(traced(qaoa_sharded.probabilities, (2**9,), (p,), (p,), half=half)) for p in (4, 64)]
    assert sizes[0] == sizes[1]
    assert text[0].count("\n") == text[1].count("\n")


def test_more_strings_than_a_32_bit_index_names():
    shape = traced(qaoa_sharded.probabilities, (2**33,), (3,), (3,), devices=8, half=True).out_avals[0].shape
    assert shape == (2**33,)


@pytest.mark.parametrize(
    ("function", "shapes", "options", "message"),
    [
        ("probabilities", [(8,), (1,), (1,)], {}, "n must be at least 4 on 4 devices, got 3"),
        (
            "probabilities",
            [(16,), (1,), (1,)],
            {"half": True},
            "n must be at least 6 on 4 devices in the half space, got 5",
        ),
        (
            "probabilities",
            [(24,), (1,), (1,)],
            {},
            "costs must be a vector whose length is a power of two, got shape (24,)",
        ),
        ("probabilities", [(2**33,), (1,), (1,)], {}, "n must be at most 32 on 4 devices, got 33"),
        ("probabilities", [(16,), (1,), (1,)], {"axis": "rows"}, "axis must be one of ('strings',), got 'rows'"),
        (
            "tensor_costs",
            [(6, 6)],
            {"devices": 3},
            "the number of devices along 'strings' must be a power of two, got 3",
        ),
        ("tensor_costs", [(6, 5)], {}, "tensor must have shape (n,) * q, got (6, 5)"),
        ("tensor_costs", [(6, 6, 6)], {"half": True}, "half needs an even cost: the order q must be even, got 3"),
    ],
)
def test_bad_input(function, shapes, options, message):
    with pytest.raises(InputError) as error:
        traced(getattr(qaoa_sharded, function), *shapes, **options)
    assert str(error.value) == message


def test_a_spike_has_a_spin_for_each_qubit():
    law = partial(
        qaoa_sharded.overlap_distribution,
        mesh=AbstractMesh((4,), ("strings",), axis_types=(AxisType.Auto,)),
        axis="strings",
        half=True,
    )
    with pytest.raises(InputError) as error:
        jax.eval_shape(law, jax.ShapeDtypeStruct((32,), jnp.float32), jax.ShapeDtypeStruct((5,), jnp.int32))
    assert str(error.value) == "spike must have shape (6,), got (5,)"
