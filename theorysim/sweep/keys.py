"""Keys of samples, from (experiment, setting, base seed, seed index) alone: SHA-256 of their text, 64 bits of it.

So neither chunking nor order, device, executor or interruption can change what a sample draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from theorysim.sweep.settings import canonical


def sample_keys(experiment_id: str, setting: Any, seed: int, indices: Iterable[int]) -> UInt32[np.ndarray, "samples 2"]:
    """Key data (threefry) of the samples `indices` of one setting under the base seed `seed`, shape (samples, 2)."""
    prefix = hashlib.sha256(repr((experiment_id, canonical(setting), int(seed))).encode())
    digests = bytearray()
    for index in indices:
        digest = prefix.copy()
        digest.update(b"/%d" % index)
        digests += digest.digest()[:8]
    return np.frombuffer(bytes(digests), dtype=">u4").reshape(-1, 2).astype(np.uint32)


def wrap_keys(data: Any) -> Key[Array, " *samples"]:
    """Typed keys of key data of shape (*samples, 2)."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def sample_key(experiment_id: str, setting: Any, seed: int, index: int) -> Key[Array, ""]:
    """The key of one sample, as a sweep passes it to `measure`: for replays."""
    return wrap_keys(sample_keys(experiment_id, setting, seed, [index])[0])
