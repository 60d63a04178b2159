"""Checks on designs far smaller than a preset's, for tests: few seeds of small instances cannot verify a claim, but can refute one.

What a whole preset says of a claim, and of a prediction that is slightly off, is said by `theorysim verify` and `theorysim audit`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from theorysim.errors import InputError
from theorysim.sweep import canonical
from theorysim.verify import Check, Design, Session


@dataclass(frozen=True)
class Reduction:
    """seeds: at most so many of each setting. change: of each setting, to a smaller one, or to None to leave it out; settings
    that become equal are one. settings: at most so many, the first.
    """

    seeds: int
    change: Callable[[Any], Any] = lambda setting: setting
    settings: int | None = None

    def design(self, designs: Mapping[str, Design]) -> dict[str, Design]:
        """The reduced quick design."""
        quick = designs["quick"]
        changed = [self.change(setting) for setting in quick.settings[: self.settings]]
        distinct = tuple({canonical(setting): setting for setting in changed if setting is not None}.values())
        return {"quick": Design(distinct, min(self.seeds, quick.seeds))}

    def __call__(self, check: Check) -> Check:
        """The check, and its control, on reduced designs."""
        control = check.control
        if control.design is not None:
            control = dataclasses.replace(control, design=self.design(control.design))
        return dataclasses.replace(check, design=self.design(check.design), control=control)


def at(**fields: Any) -> Callable[[Any], Any]:
    """The change of these fields of a setting; `model__p` stands for the field p of its field `model`."""

    def change(setting: Any) -> Any:
        for name, value in fields.items():
            setting = _replaced(setting, name.split("__"), value)
        return setting

    return change


def _replaced(setting: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _replaced(getattr(setting, path[0]), path[1:], value)
    return dataclasses.replace(setting, **{path[0]: value})


def assert_told_apart(session: Session, check: Check) -> None:
    """The check is not refuted, its control is. NaN in place of all numbers of a sample does not take it out of the evidence."""
    judgement, control = session.judge(check), session.judge(check.broken())
    assert judgement.status != "refuted", judgement
    assert control.status == "refuted", control
    if check.admissible is not None:
        design = session.design(check.design)
        for setting, results in zip(design.settings, session.measure(check.experiment, design), strict=True):
            lost = {name: np.full_like(a, np.nan) if a.dtype.kind == "f" else a for name, a in results.items()}
            before = np.asarray(check.admissible(setting, results), bool)
            with contextlib.suppress(InputError):  # a prediction refuses the instance, which is no pass
                assert np.asarray(check.admissible(setting, lost), bool)[before].all(), f"{check.name}: NaN is left out"
