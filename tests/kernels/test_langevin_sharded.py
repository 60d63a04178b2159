"""Particles spread over four and eight virtual devices, against one device."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import langevin_sharded_worker as worker
import numpy as np
import pytest
from jax import random
from jax.sharding import AbstractMesh

from theorysim.errors import InputError
from theorysim.kernels import langevin

SECONDS = 120  # far beyond what the worker takes, on a busy machine too


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    file = tmp_path_factory.mktemp("langevin") / "results.npz"
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    thresholds = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    command = [sys.executable, worker.__file__, str(file), str(max(worker.SIZES))]
    environment = {**os.environ, "XLA_FLAGS": "", **cache, **thresholds}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, result.stderr
    return np.load(file)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_devices_together_give_what_one_gives(dtype, sharded):
    with jax.enable_x64(True):
        model, X, points = worker.case(dtype)
        alone = jax.jit(lambda X, eta: worker.run(model, X, points, eta))
        expected = {name: jax.device_get(alone(X, eta)) for name, eta in (("fine", 0.1), ("diverged", 1e5))}
    assert not expected["fine"]["diverged"]
    assert expected["diverged"]["diverged"]
    tolerance = 200 * np.finfo(dtype).eps
    for devices in worker.SIZES:
        for name, kinds in expected.items():
            for kind, values in kinds.items():
                ours = sharded[f"{dtype}/{devices}/{name}/{kind}"]
                np.testing.assert_allclose(ours, values, rtol=tolerance, atol=tolerance, err_msg=f"{name} {kind}")


def test_bad_meshes():
    model, X, _ = worker.case("float32")
    state, key = langevin.init(jnp.asarray(X)), random.key(0)
    mesh = AbstractMesh((5,), ("particles",))
    with pytest.raises(InputError, match="N must be a multiple of the 5 devices, got 24"):
        langevin.run_sharded(key, state, model, 0.1, mesh=mesh, axis="particles", steps=1)
    with pytest.raises(InputError, match=r"axis must be one of .*, got 'data'"):
        langevin.run_sharded(key, state, model, 0.1, mesh=mesh, axis="data", steps=1)
