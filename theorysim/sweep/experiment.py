"""What a sweep runs: one sample of a measurement, as a pure function of a key and a setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Key

from theorysim.errors import require

Setting = Any


@dataclass(frozen=True)
class Experiment:
    """One measurement, to be repeated over settings and seeds.

    id: "<paper>/<experiment>"; the keys of its samples are drawn from it, and its store lies under it.
    measure: (key, setting) -> arrays by name. Pure JAX, one sample, shapes fixed by the static fields of the setting.
    x64: whether it runs inside `jax.enable_x64(True)`.
    operations: floating-point operations of one sample at a setting, for cost estimates.
    admit: (setting, bytes) -> None; raises InputError where one sample needs more, saying what would fit. Asked before
        anything is compiled, which then checks again by the compiler's own account.
    """

    id: str
    measure: Callable[[Key[Array, ""], Setting], Mapping[str, Array]]
    x64: bool = True
    operations: Callable[[Setting], float] | None = None
    admit: Callable[[Setting, float], None] | None = None

    def __post_init__(self) -> None:
        parts = self.id.split("/")
        require(
            all(part and not part.startswith(".") and "\\" not in part for part in parts),
            f"id of an experiment must read <paper>/<experiment>, got {self.id!r}",
        )
