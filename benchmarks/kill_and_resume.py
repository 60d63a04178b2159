"""Kill a verification without warning at random moments, resume it each time, and compare with an uninterrupted run.

Both runs are `theorysim verify` in processes of their own, with one stated memory, so that their chunks agree. Each kill
is a SIGKILL up to two seconds after a random number of chunks is finished, start-up included; numbers and delays are seeded.
At the end every stored array must be equal bit for bit, and no chunk that was finished before a kill computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

COMMAND = [sys.executable, "-c", "import sys; from theorysim.cli import main; sys.exit(main())", "verify"]


def start(targets: list[str], preset: str, memory: str, folder: Path) -> subprocess.Popen[bytes]:
    """A verification whose store, verdicts and log lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--preset", preset, "--memory", memory, "--store", str(folder / "store")]
    with (folder / "log").open("ab") as log:
        command = [*COMMAND, *targets, *options, "--json", str(folder / "verdicts.json")]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def finish(targets: list[str], preset: str, memory: str, folder: Path) -> float:
    """Run to the end; wall seconds. Exit code 1 (a refuted claim) is a result like any other."""
    clock = time.perf_counter()
    code = start(targets, preset, memory, folder).wait()
    if code not in (0, 1):
        sys.exit(f"the run ended with exit code {code}; see {folder / 'log'}")
    return time.perf_counter() - clock


def markers(folder: Path) -> dict[str, int]:
    """Finished chunks, each with the time at which it was written."""
    root = folder / "store"
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("chunks/*.json")}


def differing(one: Path, other: Path) -> tuple[int, int, list[str]]:
    """Number of stored arrays and of their bytes, and the names of those that are not equal bit for bit."""
    arrays, size, different = 0, 0, []
    folders = [{str(d.relative_to(f / "store")) for d in (f / "store").rglob("data.zarr")} for f in (one, other)]
    different += [f"{name} (in one store only)" for name in sorted(folders[0] ^ folders[1])]
    for name in sorted(folders[0] & folders[1]):
        groups = [dict(zarr.open_group(f / "store" / name, mode="r").arrays()) for f in (one, other)]
        for key in sorted(groups[0].keys() | groups[1].keys()):
            a, b = (np.asarray(group[key][:]) for group in groups)
            arrays, size = arrays + 1, size + a.nbytes
            text = a.dtype.kind in "OTU"
            same = (
                a.tolist() == b.tolist() if text else (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
            )
            if not same:
                different.append(f"{name}/{key}")
    return arrays, size, different


def verdicts(folder: Path) -> list[tuple[str, str]]:
    return [(record["claim"], record["verdict"]) for record in json.loads((folder / "verdicts.json").read_text())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["large-stepsize-gd"], help="papers or claims")
    parser.add_argument("--preset", default="standard", choices=("quick", "standard", "paper"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--memory", default="2GB", help="of the sweep, the same for both runs")
    parser.add_argument("--folder", type=Path, help="where the two runs lie; default: a temporary folder, deleted")
    arguments = parser.parse_args()
    if arguments.kills < 1:
        parser.error(f"--kills must be at least 1, got {arguments.kills}")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    run = (arguments.targets, arguments.preset, arguments.memory)
    # Both runs must start from nothing, or there is nothing to lose.
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"--folder must be empty, got {folder}")
    os.environ.setdefault("THEORYSIM_CACHE", str(folder / "xla"))

    seconds = finish(*run, folder / "whole")
    total = len(markers(folder / "whole"))
    start_up = finish(*run, folder / "whole")  # with nothing left to compute
    print(f"uninterrupted: {total} chunks, {seconds:.1f} s ({arguments.preset}, {', '.join(arguments.targets)})")
    print(f"started again, with nothing left to compute: {start_up:.1f} s\n")
    print(f"{'kill':>4}  {'after s':>8}  {'chunks':>6}  {'new':>5}  {'lost or redone':>14}")
    draws = np.random.default_rng(arguments.seed)
    broken, kept, lost, killed, restarts = folder / "broken", {}, 0, 0, 0.0
    for number, progress in enumerate(np.sort(draws.integers(0, total, arguments.kills)), 1):
        clock, process = time.perf_counter(), start(*run, broken)
        while process.poll() is None and len(markers(broken)) < progress:
            time.sleep(0.05)
        try:
            process.wait(timeout=draws.uniform(0, 2))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        restarts += time.perf_counter() - clock
        now = markers(broken)
        gone = sum(now.get(name) != written for name, written in kept.items())
        lost += gone
        end = "" if process.returncode == -signal.SIGKILL else "  (had finished)"
        seen = time.perf_counter() - clock
        print(f"{number:>4}  {seen:>8.1f}  {len(now):>6}  {len(now) - len(kept):>5}  {gone:>14}{end}", flush=True)
        kept = now
    last = finish(*run, broken)
    lost += sum(markers(broken).get(name) != written for name, written in kept.items())
    print(f"last run: {last:.1f} s; all runs with kills: {restarts + last:.1f} s\n")

    arrays, size, different = differing(folder / "whole", broken)
    same_verdicts = verdicts(folder / "whole") == verdicts(broken)
    print(f"killed {killed} of {arguments.kills} times; finished chunks lost or redone: {lost}")
    print(
        f"{arrays} arrays, {size / 1e6:.1f} MB: {len(different)} differ; verdicts {'equal' if same_verdicts else 'DIFFER'}"
    )
    for name in different[:20]:
        print(f"  differs: {name}")
    if arguments.folder is None:
        shutil.rmtree(folder)
    return int(bool(different) or lost > 0 or not same_verdicts or killed == 0)


if __name__ == "__main__":
    sys.exit(main())
