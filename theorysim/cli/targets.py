"""What the words after a command name: papers, claims by exact id, figures, and files with claims of one's own."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
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
            found += claims_of_file(target)
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
    found = [figure for target in targets or slugs for figure in _in_papers(target, "figure", members)]
    require(bool(found), f"there are no figures in {', '.join(targets or slugs) or 'this installation'}")
    return tuple({figure.id: figure for figure in found}.values())


def _in_papers(target: str, noun: str, members: Callable[[str], Iterable]) -> list:
    """All members of the paper `target`, or the one whose id it is."""
    slug = target.split(".", 1)[0]
    slugs = papers.slugs()
    if slug not in slugs:
        raise InputError(f"unknown paper or {noun} {target!r}; {_nearest(target, slugs) or _among(slugs)}")
    if target == slug:
        return list(members(slug))
    known = {member.id: member for member in members(slug)}
    if target not in known:
        raise InputError(f"unknown {noun} {target!r}; {_nearest(target, known) or f'see theorysim list {slug}'}")
    return [known[target]]


def _nearest(target: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(target, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(nearest)}?" if nearest else ""


def _among(slugs: Sequence[str]) -> str:
    return f"there are {', '.join(slugs)}, and files FILE.py"


def is_file(target: str) -> bool:
    """Whether a target names a file rather than a paper or a claim."""
    return target.endswith(".py") or "/" in target or "\\" in target


def claims_of_file(name: str) -> tuple[Claim, ...]:
    """The `CLAIMS` of a Python file. Raises InputError where it is missing, does not import or holds no claims."""
    path, file = Path(name), f"file of claims {name!r}"
    require(path.suffix == ".py" and path.is_file(), f"file of claims must be a Python file that exists, got {name!r}")
    module_name = f"theorysim_file_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise InputError(f"{file} does not import: {explain(error)}") from None
    require(hasattr(module, "CLAIMS"), f"{file} must define CLAIMS, a sequence of Claim")
    from theorysim.verify.claim import Claim

    claims = module.CLAIMS
    good = isinstance(claims, Sequence) and all(isinstance(claim, Claim) for claim in claims)
    require(good, f"CLAIMS of {name!r} must be a sequence of Claim, got {' '.join(repr(claims).split())[:80]}")
    require(len(claims) > 0, f"CLAIMS of {name!r} must not be empty, got {claims!r}")
    return tuple(claims)
