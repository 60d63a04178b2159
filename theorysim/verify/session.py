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
from theorysim.verify.verdict import CheckVerdict, Judgement, Verdict


@dataclass
class Session:
    """Everything a verification needs besides the claim.

    preset: quick, standard or paper.
    seed: base seed; every sample's key derives from (experiment, setting, seed, index).
    store: folder in which every chunk is kept, so that a killed run resumes; None keeps results in memory alone.
    memory: bytes that the sweep may use; None for a safe share of the machine's.
    executor: where chunks are computed; None for threads of this process.
    """

    preset: str = "quick"
    seed: int = 0
    store: Path | None = None
    memory: float | None = None
    progress: Any = None
    executor: Executor | None = None
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

    def measure(self, experiment: Experiment, design: Design) -> list[dict[str, np.ndarray]]:
        """Results of each setting of a design: arrays whose leading axis is the seed. Run once per session."""
        key = (experiment.id, tuple(canonical(setting) for setting in design.settings), design.seeds)
        if key not in self._measured:
            dataset = run(
                experiment,
                design.settings,
                design.seeds,
                seed=self.seed,
                store=self.store,
                memory=self.memory,
                progress=self.progress,
                executor=self.executor,
            )
            arrays = {str(name): variable.values for name, variable in dataset.data_vars.items()}
            results = [{name: array[i] for name, array in arrays.items()} for i in range(len(design.settings))]
            self._measured[key] = (experiment, results)
        known, results = self._measured[key]
        require(
            known.measure == experiment.measure, f"experiment id {experiment.id!r} names two different measurements"
        )
        return results

    def cases(self, check: Check) -> list[Case]:
        """The evidence of a check, one case a setting."""
        design = self.design(check.design)
        cases = []
        for setting, results in zip(design.settings, self.measure(check.experiment, design), strict=True):
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
        return check.judge(self.cases(check))

    def verify(self, claim: Claim) -> Verdict:
        """The verdict on a claim: every check and every control, each control through its check's own judge."""
        verdicts = []
        for check in claim.checks:
            start = time.perf_counter()
            judgement, control = self.judge(check), self.judge(check.broken())
            verdicts.append(
                CheckVerdict(
                    name=check.name,
                    judgement=judgement,
                    control=control,
                    breaks=check.control.breaks,
                    sizes=sizes(check, self.design(check.design)),
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


def sizes(check: Check, design: Design) -> tuple[float, ...]:
    """The sizes of a check at a design, sorted; empty where it has none."""
    if check.size is None:
        return ()
    return tuple(sorted({float(size) for setting in design.settings for size in np.ravel(check.size(setting))}))
