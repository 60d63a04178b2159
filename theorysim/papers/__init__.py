"""The papers, one folder each. A folder is found by being there; nothing lists it.

Slugs are folder names with hyphens. Each folder has `claims.py` with `CLAIMS` (and `on_data(source, rescale)` where the
paper takes a user's data set) and may have `figures.py` with `FIGURES` (and `on_data` likewise).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING

from theorysim.errors import InputError

if TYPE_CHECKING:
    from theorysim.plots import Figure
    from theorysim.verify.claim import Claim


def slugs() -> tuple[str, ...]:
    """Slugs of all papers, sorted."""
    return tuple(sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__) if info.ispkg))


def _module(slug: str, part: str):
    if slug not in slugs():
        raise InputError(f"unknown paper {slug!r}; there are {', '.join(slugs())}")
    name = f"{__name__}.{slug.replace('-', '_')}.{part}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def claims(slug: str) -> tuple[Claim, ...]:
    """The claims of a paper, in the paper's order. Raises InputError for an unknown paper."""
    module = _module(slug, "claims")
    return () if module is None else module.CLAIMS


def claims_on_data(slug: str, source: str, rescale: bool = False) -> tuple[Claim, ...]:
    """The paper's claims that can be put to a data set: a bundled one by name, or a path to an .npz with X and y.

    Raises InputError where the paper takes no data or the data set is not admissible.
    """
    module = _module(slug, "claims")
    if module is None or not hasattr(module, "on_data"):
        raise InputError(f"paper {slug} takes no --data, got {source!r}")
    return module.on_data(source, rescale=rescale)


def takes_data(slug: str, part: str = "claims") -> bool:
    """Whether the paper's claims (or its figures, with part="figures") can be put to a user's data set."""
    return hasattr(_module(slug, part), "on_data")


def figures(slug: str) -> tuple[Figure, ...]:
    """The figures of a paper. Raises InputError for an unknown paper."""
    module = _module(slug, "figures")
    return () if module is None else module.FIGURES


def figures_on_data(slug: str, source: str, rescale: bool = False) -> tuple[Figure, ...]:
    """The paper's figures of a data set, named as in `claims_on_data`. Raises InputError likewise."""
    module = _module(slug, "figures")
    if module is None or not hasattr(module, "on_data"):
        raise InputError(f"figures of paper {slug} take no --data, got {source!r}")
    return module.on_data(source, rescale=rescale)
