"""Experiments over settings and seeds: keys, chunks under one vmap, executors, progress and a store that resumes."""

from theorysim.sweep.batching import one_by_one
from theorysim.sweep.experiment import Experiment
from theorysim.sweep.keys import sample_key, sample_keys
from theorysim.sweep.run import SweepError, run
from theorysim.sweep.settings import canonical, describe, setting

__all__ = [
    "Experiment",
    "SweepError",
    "canonical",
    "describe",
    "one_by_one",
    "run",
    "sample_key",
    "sample_keys",
    "setting",
]
