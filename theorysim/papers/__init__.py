"""The papers, one folder each, and the claims of installed packages. Both are found by being there; nothing lists them.

Slugs are folder names with hyphens. Each folder has `claims.py` with `CLAIMS` (and `on_data(source, rescale)` where the
paper takes a user's data set), may have `figures.py` with `FIGURES` (and `on_data` likewise), and `strategies.py` with
Hypothesis strategies of its settings (`theorysim.testing`).

A package elsewhere adds its own by an entry point of the group `theorysim.claims`. Its name is the slug, the part of
the claims' ids before the dot; its value is a module with CLAIMS and perhaps FIGURES, or `module:CLAIMS`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

from theorysim.errors import InputError, require

if TYPE_CHECKING:
    from theorysim.plots import Figure
    from theorysim.verify.claim import Claim

GROUP = "theorysim.claims"
"""Group of the entry points by which installed packages add claims."""


def folders() -> tuple[str, ...]:
    """Slugs of the papers of this library, sorted."""
    return tuple(sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__) if info.ispkg))


@functools.cache
def installed() -> dict[str, EntryPoint]:
    """Entry points of installed packages by their slugs. Raises InputError for a slug that occurs twice."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        known = found.setdefault(entry.name, entry)
        fresh = known.value == entry.value and entry.name not in folders()
        require(fresh, f"entry point {entry.name!r} = {entry.value!r} of group {GROUP}: another paper has that name")
    return found


def slugs() -> tuple[str, ...]:
    """Slugs of all papers, sorted; those of installed packages after those of this library."""
    return (*folders(), *sorted(installed()))


def part(slug: str, name: str) -> ModuleType | None:
    """The module `name` in the folder of a paper of this library, None where there is none. Raises InputError."""
    if slug not in folders():
        raise InputError(f"unknown paper {slug!r}; there are {', '.join(folders())}")
    path = f"{__name__}.{slug.replace('-', '_')}.{name}"
    return importlib.import_module(path) if importlib.util.find_spec(path) else None


def check_members(name: str, members: Any, kind: type) -> None:
    """Raise InputError unless `members` is a sequence of instances of `kind`."""
    good = isinstance(members, Sequence) and all(isinstance(member, kind) for member in members)
    allowed = f"{name} must be a sequence of {kind.__name__}"
    require(good, f"{allowed}, got {' '.join(repr(members).split())[:80]}")


def _members(slug: str, place: str, constant: str) -> tuple[Any, ...]:
    """`constant` of the module `place` in a paper's folder, or of an installed package."""
    if slug in installed():
        return _of_package(installed()[slug], constant)
    module = part(slug, place)
    return () if module is None else getattr(module, constant)


def _of_package(entry: EntryPoint, constant: str) -> tuple[Any, ...]:
    from theorysim.plots import Figure
    from theorysim.verify.claim import Claim

    title = f"entry point {entry.name!r} = {entry.value!r}"
    try:
        loaded: Any = entry.load()
        # `module:CLAIMS` names the claims alone; the figures are those beside them.
        home = loaded if isinstance(loaded, ModuleType) else importlib.import_module(entry.module)
    except Exception as error:
        raise InputError(f"{title} does not load: {type(error).__name__}: {error}") from error
    found: Any
    if constant == "FIGURES":
        found, kind = getattr(home, "FIGURES", ()), Figure
    else:
        found, kind = getattr(loaded, "CLAIMS", None) if loaded is home else loaded, Claim
    check_members(f"{constant} of {title}", found, kind)
    stray = next((member.id for member in found if member.id.split(".", 1)[0] != entry.name), None)
    require(stray is None, f"ids of {title} must read {entry.name}.<name>, got {stray!r}")
    return tuple(found)


def claims(slug: str) -> tuple[Claim, ...]:
    """The claims of a paper, in the paper's order. Raises InputError for an unknown paper."""
    return _members(slug, "claims", "CLAIMS")


def claims_on_data(slug: str, source: str, rescale: bool = False) -> tuple[Claim, ...]:
    """The paper's claims that can be put to a data set: a bundled one by name, or a path to an .npz with X and y.

    Raises InputError where the paper takes no data or the data set is not admissible.
    """
    require(takes_data(slug), f"paper {slug} takes no --data, got {source!r}")
    return part(slug, "claims").on_data(source, rescale=rescale)  # type: ignore[union-attr]


def takes_data(slug: str, place: str = "claims") -> bool:
    """Whether the paper's claims (or its figures, with place="figures") can be put to a user's data set."""
    return slug not in installed() and hasattr(part(slug, place), "on_data")


def figures(slug: str) -> tuple[Figure, ...]:
    """The figures of a paper. Raises InputError for an unknown paper."""
    return _members(slug, "figures", "FIGURES")


def figures_on_data(slug: str, source: str, rescale: bool = False) -> tuple[Figure, ...]:
    """The paper's figures of a data set, named as in `claims_on_data`. Raises InputError likewise."""
    require(takes_data(slug, "figures"), f"figures of paper {slug} take no --data, got {source!r}")
    return part(slug, "figures").on_data(source, rescale=rescale)  # type: ignore[union-attr]
