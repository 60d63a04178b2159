"""Evolutions on several CPU devices, to be started as a process of its own: the number of devices is fixed at start.

    qaoa_sharded_worker.py FILE DEVICES [PORT PROCESSES PROCESS]

writes to FILE what each case gives. With a port it is one of several processes, each with that many devices.
"""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    devices: int
    n: int
    q: int
    p: int
    half: bool

    def instance(self, seed=0):
        """Tensor, angles and spike."""
        rng = np.random.default_rng([self.n, self.q, self.p, seed])
        tensor = rng.normal(size=(self.n,) * self.q) * self.n ** (-(self.q - 1) / 2)
        return tensor, rng.normal(size=self.p), rng.normal(size=self.p), rng.choice([-1, 1], self.n)


CASES = {
    "one layer": Case(4, 12, 2, 1, False),
    "odd depth": Case(4, 12, 2, 3, False),
    "cubic, even depth": Case(4, 11, 3, 4, False),
    "half space, one layer": Case(4, 12, 2, 1, True),
    "half space, odd n": Case(4, 11, 2, 4, True),
    "half space, eight devices": Case(8, 12, 4, 3, True),
    "fewest spins": Case(8, 6, 2, 3, False),
    "half space, fewest spins": Case(8, 8, 2, 3, True),
}
IN_PROCESSES = ("half space, odd n",)
BATCH = Case(4, 7, 2, 2, True)


def batch():
    """Arguments of two instances."""
    return tuple(map(np.stack, zip(*(BATCH.instance(seed) for seed in range(2)), strict=True)))


def program(case, mesh):
    from theorysim.kernels import qaoa_sharded

    where = {"mesh": mesh, "axis": "strings", "half": case.half}

    def run(tensor, gammas, betas, spike):
        costs = qaoa_sharded.tensor_costs(tensor, **where)
        probabilities = qaoa_sharded.probabilities(costs, gammas, betas, **where)
        return costs, probabilities, qaoa_sharded.overlap_distribution(probabilities, spike, **where)

    return run


def parts(array):
    """What this process holds of a vector; NaN elsewhere."""
    values = np.full(array.shape, np.nan)
    for shard in array.addressable_shards:
        values[shard.index] = shard.data
    return values


def main(file, devices, port=None, processes=1, process=0):
    import jax
    from jax.sharding import Mesh
    from jaxtyping import install_import_hook

    install_import_hook(["theorysim.kernels"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
    jax.config.update("jax_num_cpu_devices", int(devices))
    if port is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(process), initialization_timeout=30)
    results = {}
    with jax.enable_x64(True):
        for name in CASES if port is None else IN_PROCESSES:
            case = CASES[name]
            mesh = Mesh(np.array(jax.devices()[: case.devices]), ("strings",))
            compiled = jax.jit(program(case, mesh)).lower(*case.instance()).compile()
            for kind, array in zip(("costs", "probabilities", "law"), compiled(*case.instance()), strict=True):
                results[f"{name}/{kind}"] = parts(array)
            text = compiled.as_text()
            count = [
                len(re.findall(rf" {kind}\(", text)) for kind in ("all-to-all", "collective-permute", "all-gather")
            ]
            results[f"{name}/collectives"] = np.array(count)
        if port is None:
            mesh = Mesh(np.array(jax.devices()[: BATCH.devices]), ("strings",))
            _, probabilities, law = jax.jit(jax.vmap(program(BATCH, mesh)))(*batch())
            results |= {"batch/probabilities": parts(probabilities), "batch/law": parts(law)}
    np.savez(file, **results)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main(*sys.argv[1:])
