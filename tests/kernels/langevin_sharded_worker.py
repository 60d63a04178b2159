"""Noisy gradient descent on several CPU devices, to be started as a process of its own: the number of devices is fixed at start.

langevin_sharded_worker.py FILE DEVICES
"""

from __future__ import annotations

import os
import sys

import numpy as np

N, STEPS = 24, 11
SIZES = {4: {"chunk": None}, 8: {"chunk": 2}}
"""Devices, and how each chunks its particles."""


def case(dtype):
    """Model, particles and points."""
    from theorysim.kernels.langevin import Model

    rng = np.random.default_rng(0)
    Z, y, X, points = rng.normal(size=(12, 3)), rng.normal(size=12), rng.normal(size=(N, 3)), rng.normal(size=(5, 3))
    Z, y, X, points = (v.astype(dtype) for v in (Z, y, X, points))
    return Model.of("tanh", "squared", Z, y, lamp=0.05, lam=0.1), X, points


def run(model, X, points, eta=0.1, **options):
    """Particles, moments and state; on the devices of a mesh if there is one among the options."""
    import jax.numpy as jnp
    from jax import random

    from theorysim.kernels import langevin

    go = langevin.run_sharded if "mesh" in options else langevin.run
    points = jnp.asarray(points)
    options |= {"points": points, "reduction": langevin.moments(points), "every": 2, "steps": STEPS}
    state, sums = go(random.key(1), langevin.init(jnp.asarray(X)), model, eta, **options)
    return {**state._asdict(), **sums._asdict()}


def main(file, devices):
    import jax
    from jax.sharding import Mesh
    from jaxtyping import install_import_hook

    install_import_hook(["theorysim.kernels"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
    jax.config.update("jax_num_cpu_devices", int(devices))
    results = {}
    with jax.enable_x64(True):
        for dtype in ("float32", "float64"):
            model, X, points = case(dtype)
            for count, options in SIZES.items():
                mesh = Mesh(np.array(jax.devices()[:count]), ("particles",))
                where = {"mesh": mesh, "axis": "particles", **options}
                go = jax.jit(
                    lambda X, eta, where=where, model=model, points=points: run(model, X, points, eta, **where)
                )
                for name, eta in (("fine", 0.1), ("diverged", 1e5)):
                    for kind, values in go(X, eta).items():
                        results[f"{dtype}/{count}/{name}/{kind}"] = np.asarray(values)
    np.savez(file, **results)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main(*sys.argv[1:])
