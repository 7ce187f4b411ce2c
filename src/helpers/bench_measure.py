"""How the benchmarks measure: two sides in turn, one thread, and memory in processes of their own.

A benchmark module offers ``sides(case, device) -> {name: factory}``. A factory prepares its side
(data, networks, loaders) and returns the call that is measured. Two sides are called in turn in
one process, so that a slow spell of the machine meets both, and each round gives one ratio. Peak
memory is measured in a fresh process for each side, which prepares the side and calls it once.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from helpers.intervals import Interval, bootstrap
from helpers.workers import THREADS, cpu_count

__all__ = ["compare", "environment", "memory", "one_thread", "rounded", "timed"]

LEAST = 0.2  # seconds that one measurement of a side lasts at least, by repeated calls
BUSY = 1.25  # wall over processor seconds from which a machine counts as busy


@contextmanager
def one_thread():
    """Hold torch and the BLAS libraries of this process to one thread each."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def timed(call: Callable[[], object], device: str = "cpu", number: int = 1) -> tuple[float, float]:
    """Return wall and processor seconds of one call, the mean over ``number`` calls."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(number):
        call()
    _wait(device)
    return (time.perf_counter() - wall) / number, (time.process_time() - processor) / number


def compare(module: str, case: dict, device: str = "cpu", rounds: int = 7,
            least: float | None = None) -> dict:
    """Time the sides of a case in turn.

    Parameters
    ----------
    module : str
        A benchmark module with ``sides(case, device)``; its sides are ``"book"`` and ``"plain"``.
    case : dict
        JSON values, passed on.
    device : {"cpu", "cuda"}
    rounds : int
        Rounds after one call of each side as warm-up; every other round runs in reverse order.
    least : float, optional
        Seconds (default `LEAST`); a fast side is called several times a round, to last this long.

    Returns
    -------
    dict
        ``seconds`` and ``processor`` of each side (median and its bootstrap interval over rounds),
        ``ratio`` (plain over book; median of the rounds' ratios), ``rounds``, ``busy``.
    """
    least = LEAST if least is None else least
    sides = importlib.import_module(module).sides(case, device)
    calls = {name: prepare() for name, prepare in sides.items()}
    number = {name: max(1, math.ceil(least / max(timed(call, device)[0], 1e-9)))
              for name, call in calls.items()}
    found: dict[str, list] = {name: [] for name in calls}
    for k in range(rounds):
        for name in list(calls)[:: 1 if k % 2 == 0 else -1]:
            found[name].append(timed(calls[name], device, number[name]))
    arrays = {name: np.array(values) for name, values in found.items()}
    ratio = arrays["plain"][:, 0] / arrays["book"][:, 0]
    busy = max(np.median(a[:, 0] / np.maximum(a[:, 1], 1e-9)) for a in arrays.values())
    return {
        "seconds": {name: _median(a[:, 0]) for name, a in arrays.items()},
        "processor": {name: _median(a[:, 1]) for name, a in arrays.items()},
        "ratio": _median(ratio), "rounds": rounds,
        "busy": bool(device == "cpu" and busy > BUSY),
    }


def _median(values: np.ndarray) -> list[float]:
    found: Interval = bootstrap(values, np.median)
    return rounded([found.value, found.low, found.high])


def rounded(value, digits: int = 4):
    """Round the floats of nested lists and dictionaries to significant digits; JSON types only."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, digits) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.{digits}g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def memory(module: str, case: dict, side: str, device: str = "cpu") -> dict:
    """Peak memory of one side, in a process of its own.

    Returns
    -------
    dict
        ``peak_mb``: of the whole process, libraries included (on CUDA: allocated on the device);
        ``extra_mb``: what the measured call added to what its preparation had left in place.
    """
    places = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"),
                   "PYTHONPATH": os.pathsep.join(filter(None, places))}
    request = json.dumps({"module": module, "case": case, "side": side, "device": device})
    done = subprocess.run([sys.executable, "-m", __name__, request], env=environment, text=True,
                          capture_output=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"measuring the memory of {module}, side {side!r}, failed with exit "
                           f"status {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _child(request: dict) -> dict:
    with one_thread():
        sides = importlib.import_module(request["module"]).sides(request["case"], request["device"])
        call = sides[request["side"]]()
        if request["device"] == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            peak = torch.cuda.max_memory_allocated()
            return {"peak_mb": round(peak / 2**20), "extra_mb": round((peak - before) / 2**20)}
        early = _status("VmHWM")
        _forget_peak()
        before = _status("VmRSS")
        call()
        peak = _status("VmHWM")
        return {"peak_mb": round(max(early, peak)), "extra_mb": round(max(0.0, peak - before))}


def _forget_peak() -> None:
    """Let the kernel count the peak anew from here; where it cannot, the peak is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _status(field: str) -> float:
    """MiB of this process: VmRSS now or VmHWM at its peak."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def environment(device: str = "cpu") -> dict:
    """Machine and versions behind a measurement; nothing that names a person or a folder."""
    import diffusers
    import torch

    found = {"processor": _processor(), "cores": cpu_count(), "threads": 1,
             "system": platform.system(), "python": platform.python_version(),
             "torch": torch.__version__, "numpy": np.__version__,
             "diffusers": diffusers.__version__,
             "capability": torch.backends.cpu.get_cpu_capability()}
    if device == "cuda":
        found |= {"card": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(json.dumps(_child(json.loads(sys.argv[1]))))
