"""Random words and normal numbers as functions of a key and two counters, written out so that the compiler fuses them.

`jax.random` loops over Threefry's rounds in memory on a CPU, and finds normal numbers by inverting the error function; three to
five times slower. Any entry can be computed alone, so chunking, sharding, batching and resumption change nothing. Inner `jit`s
spare programs the tracing of twenty rounds at every call; the compiler does not see them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Float, Integer, Key, UInt32

from theorysim.errors import require

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_SINE_TERMS = {jnp.dtype("float64"): 10, jnp.dtype("float32"): 6}  # |angle| <= pi/2: remainders below half a unit of 1


def key_words(key: Key[Array, ""], stream: int) -> UInt32[Array, "2"]:
    """The words of `key` with `stream` folded in, apart from what callers may draw from the key itself.

    Raises InputError unless the key is one of threefry2x32.
    """
    words = random.key_data(random.fold_in(key, stream))
    require(words.shape == (2,), f"key must be one of threefry2x32, got key data of shape {words.shape}")
    return words


@jax.jit
def threefry(
    key: UInt32[Array, "2"], x: UInt32[Array, " n"], y: UInt32[Array, " n"]
) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"]]:
    """Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw, SC 2011): two random words of two counters."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = x + schedule[0], y + schedule[1]
    for group in range(5):
        for r in _ROTATIONS[group % 2]:
            x = x + y
            y = ((y << r) | (y >> (32 - r))) ^ x
        x, y = x + schedule[(group + 1) % 3], y + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


@partial(jax.jit, static_argnames="dtype")
def normals(
    key: UInt32[Array, "2"], index: UInt32[Array, " n"], step: Integer[Array, ""], dtype: Any
) -> Float[Array, " n"]:
    """Standard normal numbers by their index and step, by Box and Muller: one word for the radius, one for the angle.

    The second number that the radius would give is not used: numbers in pairs could not be divided at any place, and
    writing them alternately costs more than it saves. Largest number 6.8; the same in both precisions, up to rounding.
    """
    a, b = threefry(key, index, jnp.broadcast_to(step.astype(jnp.uint32), index.shape))
    radius = jnp.sqrt(-2 * jnp.log((a.astype(dtype) + 0.5) * 2.0**-32))
    # cos(2 pi t) = sin(2 pi (1/4 - |t|)), t in [-1/2, 1/2)
    turn = 0.25 - jnp.abs(lax.bitcast_convert_type(b, jnp.int32).astype(dtype)) * 2.0**-32
    angle = 2 * math.pi * turn
    square = angle * angle
    sine = jnp.zeros_like(angle)
    for j in range(_SINE_TERMS[jnp.dtype(dtype)], 0, -1):
        sine = sine * square + (-1) ** j / math.factorial(2 * j + 1)
    return radius * (angle + angle * square * sine)


def signs(
    key: UInt32[Array, "2"], index: UInt32[Array, " n"], step: Integer[Array, ""], dtype: Any
) -> Float[Array, " n"]:
    """-1 or 1 with equal probability, by index and step."""
    a, _ = threefry(key, index, jnp.broadcast_to(step.astype(jnp.uint32), index.shape))
    return 1 - 2 * (a >> 31).astype(dtype)


def counters(first: Array | int, count: int) -> UInt32[Array, " count"]:
    """first ... first + count - 1."""
    return jnp.asarray(first).astype(jnp.uint32) + lax.iota(jnp.uint32, count)
