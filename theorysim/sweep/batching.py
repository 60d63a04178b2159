"""How a batch of large samples is laid out on the hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.custom_batching import sequential_vmap


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The part of a measure whose samples are better computed one after another on a CPU: where the data of one fill a cache,
    where batched products are slow, or where loops of different lengths would wait for each other. On an accelerator the
    function itself, so that a batch stays together."""
    return sequential_vmap(function) if jax.default_backend() == "cpu" else function
