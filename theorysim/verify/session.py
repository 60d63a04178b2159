"""Carry claims through: design to the sweep, dataset to the judge, control through the same judge, verdict out.

A session fixes preset, seed, store and memory once. Measurements shared by several checks are run once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from theorysim.errors import InputError, require
from theorysim.sweep import Experiment, canonical, run, sample_key
from theorysim.verify.claim import PRESETS, Case, Check, Claim, Design, Setting
from theorysim.verify.intervals import look_sizes
from theorysim.verify.verdict import ALPHA, Budget, CheckVerdict, Judgement, Verdict, refutes

LEAST_ADAPTIVE = 16
"""Seeds of the smallest design that is looked at while it runs: an eighth of fewer is no data."""


@dataclass
class Session:
    """Everything a verification needs besides the claim.

    preset: quick, standard or paper.
    seed: base seed; every sample's key derives from (experiment, setting, seed, index).
    store: folder in which every chunk is kept, so that a killed run resumes; None keeps results in memory alone.
    memory: bytes that the sweep may use; None for a safe share of the machine's.
    executor: where chunks are computed; None for threads of this process.
    adaptive: look at the data while they come in, at an eighth to twice the design's seeds, and stop at the first verdict.
        Each of K looks is judged at alpha/K, so the error rates stay what they are. Designs below 16 seeds are fixed.
    """

    preset: str = "quick"
    seed: int = 0
    store: Path | None = None
    memory: float | None = None
    progress: Any = None
    executor: Executor | None = None
    adaptive: bool = False
    _measured: dict[tuple[str, tuple[str, ...], int], tuple[Experiment, list[dict[str, np.ndarray]]]] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        require(self.preset in PRESETS, f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        require(0 <= self.seed < 2**63, f"seed must be an integer from 0 to 2^63 - 1, got {self.seed}")

    def design(self, designs: Mapping[str, Design]) -> Design:
        """The design of this session's preset."""
        if self.preset not in designs:
            raise InputError(f"preset {self.preset!r} has no design here; there are {', '.join(designs)}")
        return designs[self.preset]

    def looks(self, design: Design) -> tuple[int, ...]:
        """Seeds per setting at which the data are judged."""
        if not self.adaptive or design.seeds < LEAST_ADAPTIVE:
            return (design.seeds,)
        tile = _tile(design.seeds)
        return tuple(sorted({-(-seeds // tile) * tile for seeds in look_sizes(design.seeds)}))

    def measure(self, experiment: Experiment, design: Design, seeds: int | None = None) -> list[dict[str, np.ndarray]]:
        """Results of each setting of a design: arrays whose leading axis is the seed. Run once per session.

        seeds: how many of each setting, by default the design's; what an earlier look has measured is kept.
        """
        seeds = design.seeds if seeds is None else seeds
        key = (experiment.id, tuple(canonical(setting) for setting in design.settings), design.seeds)
        known, results = self._measured.get(key, (experiment, []))
        require(
            known.measure == experiment.measure, f"experiment id {experiment.id!r} names two different measurements"
        )
        have = len(next(iter(results[0].values()))) if results else 0
        if have < seeds:
            dataset = run(
                experiment,
                design.settings,
                seeds - have,
                seed=self.seed,
                first=have,
                tile=_tile(design.seeds) if self.adaptive and design.seeds >= LEAST_ADAPTIVE else None,
                brief=self.preset == "quick",
                store=self.store,
                memory=self.memory,
                progress=self.progress,
                executor=self.executor,
            )
            arrays = {str(name): variable.values for name, variable in dataset.data_vars.items()}
            more = [{name: array[i] for name, array in arrays.items()} for i in range(len(design.settings))]
            results = (
                more
                if not results
                else [
                    {name: np.concatenate([old[name], new[name]]) for name in old}
                    for old, new in zip(results, more, strict=True)
                ]
            )
            self._measured[key] = (experiment, results)
        return [{name: array[:seeds] for name, array in result.items()} for result in results]

    def cases(self, check: Check, seeds: int | None = None) -> list[Case]:
        """The evidence of a check, one case a setting, from `seeds` seeds of each (by default the design's)."""
        design = self.design(check.design)
        cases = []
        for setting, results in zip(design.settings, self.measure(check.experiment, design, seeds), strict=True):
            with np.errstate(all="ignore"):  # infinities and NaN are the judge's business
                cases.append(self._case(check, setting, results))
        return cases

    def _case(self, check: Check, setting: Setting, results: dict[str, np.ndarray]) -> Case:
        replay = check.replay

        def replay_sample(index: int) -> tuple[np.ndarray, np.ndarray]:
            assert replay is not None
            again = replay(setting, sample_key(check.experiment.id, setting, self.seed, index))
            again = {name: np.asarray(value)[None] for name, value in again.items()}
            inputs = {name: again[name] for name in check.inputs}
            with np.errstate(all="ignore"):
                observed = np.asarray(check.observable(setting, again))
                predicted = np.broadcast_to(check.predict(setting, inputs), observed.shape)
            return observed[0], predicted[0]

        return Case(
            setting=setting,
            observed=np.asarray(check.observable(setting, results)),
            predicted=check.predict(setting, {name: results[name] for name in check.inputs}),
            size=None if check.size is None else check.size(setting),
            group=None if check.group is None else check.group(setting),
            admissible=None if check.admissible is None else np.asarray(check.admissible(setting, results), bool),
            floor=None if check.floor is None else np.asarray(check.floor(setting, results)),
            replay=None if replay is None else replay_sample,
        )

    def judge(self, check: Check) -> Judgement:
        """The judgement of one check."""
        return self.decide(check)[0]

    def decide(self, check: Check, among: int = 1) -> tuple[Judgement, Budget]:
        """The judgement of one check of `among` checks, at the first look that decides or else the last."""
        design = self.design(check.design)
        looks = self.looks(design)
        for number, seeds in enumerate(looks, 1):
            budget = Budget(seeds, design.seeds, number, len(looks))
            judgement = check.judge(self.cases(check, seeds), ALPHA / len(looks))
            if judgement.status == "verified" or refutes(judgement, budget.looks * among):
                break
        return judgement, budget

    def verify(self, claim: Claim) -> Verdict:
        """The verdict on a claim: every check and every control, each control through its check's own judge."""
        verdicts = []
        for check in claim.checks:
            start = time.perf_counter()
            judgement, budget = self.decide(check, len(claim.checks))
            control, control_budget = self.decide(check.broken())
            verdicts.append(
                CheckVerdict(
                    name=check.name,
                    judgement=judgement,
                    control=control,
                    breaks=check.control.breaks,
                    sizes=sizes(check, self.design(check.design)),
                    budget=budget,
                    control_budget=control_budget,
                    seconds=time.perf_counter() - start,
                )
            )
        return Verdict(
            claim=claim.id,
            paper=claim.paper,
            kind=claim.kind,
            preset=self.preset,
            seed=self.seed,
            checks=tuple(verdicts),
            note=claim.note,
            announced=claim.announced,
            seconds=sum(verdict.seconds for verdict in verdicts),
        )


def _tile(seeds: int) -> int:
    """Seeds of a chunk where looks share a program: the largest power of two within a sixteenth of the design's."""
    return 2 ** (max(seeds // 16, 1).bit_length() - 1)


def sizes(check: Check, design: Design) -> tuple[float, ...]:
    """The sizes of a check at a design, sorted; empty where it has none."""
    if check.size is None:
        return ()
    return tuple(sorted({float(size) for setting in design.settings for size in np.ravel(check.size(setting))}))
