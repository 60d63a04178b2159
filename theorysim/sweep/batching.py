"""How a batch of large samples is laid out on the hardware."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
from jax.custom_batching import sequential_vmap


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The part of a measure whose samples are better computed one after another on a CPU: where the data of one fill a cache,
    where batched products are slow, or where loops of different lengths would wait for each other. On an accelerator the
    function itself, so that a batch stays together."""
    if jax.default_backend() != "cpu":
        return function

    @functools.wraps(function)
    def in_turn(*arguments: Any) -> Any:
        # Traced here, once; batching would otherwise trace the function again.
        closed, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
        leaves = sequential_vmap(jax.extend.core.jaxpr_as_fun(closed))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(result), leaves)

    return in_turn
