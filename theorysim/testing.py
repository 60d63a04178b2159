"""Hypothesis strategies of the papers' admissible settings, for property tests of one's own.

Every paper that has a module `strategies` in its folder is an attribute of this module, under the folder's name:

>>> from hypothesis import given
>>> from theorysim import testing
>>> @given(testing.settings("tap-amp"))                    # any setting of a paper
... def test_this(setting): ...
>>> @given(testing.settings("tap-amp", LinearModel))       # of one class
... def test_that(setting): ...
>>> testing.large_stepsize_gd.RECIPES                      # what else the paper's module offers

The settings drawn pass their class's checks; sizes are small, so that a measurement takes milliseconds once compiled, and
choices shrink towards the plainest.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from theorysim import papers
from theorysim.errors import InputError, require

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def settings(paper: str, kind: type | None = None) -> SearchStrategy[Any]:
    """Admissible settings of a paper, of any of its classes or of one `kind`. Raises InputError for an unknown one."""
    from hypothesis import strategies

    module = _strategies(paper)
    known = {} if module is None else module.SETTINGS
    require(bool(known), f"paper {paper} has no strategies")
    if kind is None:
        return strategies.one_of(list(known.values()))
    names = ", ".join(sorted(each.__name__ for each in known))
    require(kind in known, f"kind must be a setting of {paper}: {names}, got {getattr(kind, '__name__', kind)}")
    return known[kind]


def _strategies(paper: str) -> ModuleType | None:
    return papers.part(paper, "strategies")


def __getattr__(name: str) -> ModuleType:
    """The strategies of the paper in the folder `name`."""
    try:
        module = None if name.startswith("_") or "-" in name else _strategies(name.replace("_", "-"))
    except InputError:
        module = None
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return module


def __dir__() -> list[str]:
    return sorted(["settings", *(slug.replace("-", "_") for slug in papers.folders())])
