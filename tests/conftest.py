"""Set-up of all tests: signatures are checked at run time, Hypothesis repeats itself, compiled programs are kept.

Nothing here changes a default of JAX's numerics: 64-bit work asks for it in its own scope, in tests as elsewhere.
"""

from __future__ import annotations

import gc
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

# Thousands of small programs are compiled and most run once: the compiler's effort is as in `theorysim.sweep` for brief programs.
# The second flag is gone from later versions of jaxlib, which end the process where they do not know one.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=1"]
    + ["--xla_cpu_use_fusion_emitters=false"] * version("jaxlib").startswith("0.10.")
)

import hypothesis
import jax
import matplotlib
from jaxtyping import install_import_hook

# Where arrays are passed about; an int is a float, as everywhere in Python's typing. The command line is left out: it
# imports lazily, so names in its signatures exist for the type checker alone.
install_import_hook(
    [f"theorysim.{part}" for part in ("kernels", "sweep", "papers", "plots")],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

matplotlib.use("Agg")

# Thousands of traced programs stay in a worker's memory; looking through all of them for cycles every few thousand allocations
# takes a good part of the time.
gc.set_threshold(100_000, 20, 50)

# One profile for everyone: the same examples on every run, and no deadline, because a first call compiles.
hypothesis.settings.register_profile("theorysim", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("theorysim")

_cache = Path(os.environ.get("THEORYSIM_CACHE") or Path(tempfile.gettempdir()) / f"theorysim-tests-{os.getuid()}")
jax.config.update("jax_compilation_cache_dir", str(_cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
os.environ.setdefault("THEORYSIM_CACHE", str(_cache))  # for the command line, in this process and in others
