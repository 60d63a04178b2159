"""What the words after a command name: papers, claims by exact id, figures, and files with claims of one's own.

A target is the slug of a paper (of this library or of an installed package), an id, a file FILE.py, or FILE.py::ID.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from theorysim import papers
from theorysim.cli.process import explain
from theorysim.errors import InputError, require

if TYPE_CHECKING:
    from theorysim.plots import Figure
    from theorysim.verify.claim import Claim


def resolve_claims(targets: Sequence[str], data: str | None = None, rescale: bool = False) -> tuple[Claim, ...]:
    """The claims that `targets` name, each once, in their order; of all papers where there is no target.

    data: a data set, by name or path: the claims are then those of the papers that can be put to it.
    Raises InputError for an unknown target (naming the nearest known ones), a file without usable claims, and data that
    no target takes.
    """
    require(data is not None or not rescale, "--rescale changes the --data, and none was given")
    found: list[Claim] = []
    slugs = papers.slugs() if data is None else tuple(slug for slug in papers.slugs() if papers.takes_data(slug))
    for target in targets or slugs:
        if is_file(target):
            require(data is None, f"a file of claims takes no --data, got {target!r}")
            found += _in_file(target, "claim", claims_of_file)
        elif data is not None:
            found += _in_papers(target, "claim", lambda slug: papers.claims_on_data(slug, data, rescale))
        else:
            found += _in_papers(target, "claim", papers.claims)
    require(bool(found), f"there are no claims in {', '.join(targets or slugs) or 'this installation'}")
    by_id: dict[str, Claim] = {}
    for claim in found:
        known = by_id.setdefault(claim.id, claim)
        require(known is claim or known == claim, f"claim id {claim.id!r} names two different claims")
    return tuple(by_id.values())


def resolve_figures(targets: Sequence[str], data: str | None = None, rescale: bool = False) -> tuple[Figure, ...]:
    """The figures that `targets` name, as in `resolve_claims`. Raises InputError likewise."""
    slugs, members = papers.slugs(), papers.figures
    if data is not None:
        slugs = tuple(slug for slug in slugs if papers.takes_data(slug, "figures"))
        members = lambda slug: papers.figures_on_data(slug, data, rescale)
    require(data is not None or not rescale, "--rescale changes the --data, and none was given")
    found: list[Figure] = []
    for target in targets or slugs:
        if is_file(target):
            require(data is None, f"a file of figures takes no --data, got {target!r}")
            found += _in_file(target, "figure", figures_of_file)
        else:
            found += _in_papers(target, "figure", members)
    require(bool(found), f"there are no figures in {', '.join(targets or slugs) or 'this installation'}")
    return tuple({figure.id: figure for figure in found}.values())


def _in_papers(target: str, noun: str, members: Callable[[str], Iterable]) -> list:
    """All members of the paper `target`, or the one whose id it is."""
    slug = target.split(".", 1)[0]
    slugs = papers.slugs()
    if slug not in slugs:
        raise InputError(f"unknown paper or {noun} {target!r}; {_nearest(target, slugs) or _among(slugs)}")
    return list(members(slug)) if target == slug else [_chosen(target, noun, members(slug), slug)]


def _in_file(target: str, noun: str, members: Callable[[str], Iterable]) -> list:
    """All members of the file `target`, or the one that FILE.py::ID names."""
    name, _, chosen = target.partition("::")
    return [_chosen(chosen, noun, members(name), name)] if chosen else list(members(name))


def _chosen(name: str, noun: str, members: Iterable, where: str) -> object:
    """The member whose id is `name`."""
    known = {member.id: member for member in members}
    if name not in known:
        raise InputError(f"unknown {noun} {name!r}; {_nearest(name, known) or f'see theorysim list {where}'}")
    return known[name]


def _nearest(target: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(target, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(nearest)}?" if nearest else ""


def _among(slugs: Sequence[str]) -> str:
    return f"there are {', '.join(slugs)}, and files FILE.py"


def is_file(target: str) -> bool:
    """Whether a target names a file rather than a paper or a claim."""
    name = target.partition("::")[0]
    return name.endswith(".py") or "/" in name or "\\" in name


def claims_of_file(name: str) -> tuple[Claim, ...]:
    """The `CLAIMS` of a Python file. Raises InputError where it is missing, does not import or holds no claims."""
    from theorysim.verify.claim import Claim

    module = _module(name)
    require(hasattr(module, "CLAIMS"), f"file of claims {name!r} must define CLAIMS, a sequence of Claim")
    papers.check_members(f"CLAIMS of {name!r}", module.CLAIMS, Claim)
    require(len(module.CLAIMS) > 0, f"CLAIMS of {name!r} must not be empty, got {module.CLAIMS!r}")
    return tuple(module.CLAIMS)


def figures_of_file(name: str) -> tuple[Figure, ...]:
    """The `FIGURES` of a Python file, none where it defines none. Raises InputError as `claims_of_file` does."""
    from theorysim.plots import Figure

    found = getattr(_module(name), "FIGURES", ())
    papers.check_members(f"FIGURES of {name!r}", found, Figure)
    return tuple(found)


def _module(name: str) -> ModuleType:
    """The module of a file, imported once while the file stays as it is: claims and figures share its experiments."""
    path = Path(name)
    require(path.suffix == ".py" and path.is_file(), f"file of claims must be a Python file that exists, got {name!r}")
    status = path.stat()
    return _imported(path.resolve(), name, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _imported(path: Path, name: str, modified: int, size: int) -> ModuleType:
    module_name = f"theorysim_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise InputError(f"file of claims {name!r} does not import: {explain(error)}") from None
    return module
