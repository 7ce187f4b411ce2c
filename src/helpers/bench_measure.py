"""How the benchmarks measure: two sides in turn, one thread, and memory in processes of their own.

A benchmark module offers ``sides(case, device) -> {name: factory}``. A factory prepares its side
(data, networks, loaders) and returns the call that is measured. Two sides are called in turn in
one process, so that a slow spell of the machine meets both, and each round gives one ratio. Peak
memory is measured in a fresh process for each side, which prepares the side and calls it once.
"""

from __future__ import annotations

import math
import multiprocessing
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from helpers.intervals import bootstrap
from helpers.workers import _one_thread, cpu_count

Sides = Callable[[dict, str], dict[str, Callable[[], Callable[[], object]]]]
LEAST = 0.2  # seconds that one measurement of a side lasts at least, by repeated calls
BUSY = 1.25  # wall over processor seconds from which a machine counts as busy


@contextmanager
def one_thread():
    """Hold torch and the BLAS libraries of this process to one thread each."""
    import torch  # noqa: F401 (its threads are held where it is loaded)

    with _one_thread(), threadpool_limits(1):
        yield


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


def compare(sides: Sides, case: dict, device: str, rounds: int, with_memory: bool = True) -> dict:
    """Time the sides of a case in turn; a fast side is called several times a round.

    Parameters
    ----------
    sides : callable
        ``sides(case, device)`` of a benchmark module; its sides are ``"book"`` and ``"plain"``.
    case : dict
        Passed on.
    device : {"cpu", "cuda"}
    rounds : int
        Rounds after one call of each side as warm-up; every other round runs in reverse order.
    with_memory : bool
        Whether to measure memory, too.

    Returns
    -------
    dict
        ``seconds`` and ``processor`` of each side (median and its bootstrap interval over rounds),
        ``ratio`` (plain over book; median of the rounds' ratios), ``rounds``, ``busy`` and
        ``memory`` (`memory` of each side, or None).
    """
    calls = {name: prepare() for name, prepare in sides(case, device).items()}
    number = {name: max(1, math.ceil(LEAST / max(timed(call, device)[0], 1e-9)))
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
        "memory": {side: memory(sides, case, side, device) for side in calls}
        if with_memory else None,
    }


def _median(values: np.ndarray) -> list[float]:
    found = bootstrap(values, np.median)
    return [found.value, found.low, found.high]


def rounded(value):
    """Round the floats of nested lists and dictionaries to four digits; JSON types only."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def memory(sides: Sides, case: dict, side: str, device: str = "cpu") -> dict:
    """Peak memory of one side, in a process of its own.

    Returns
    -------
    dict
        ``peak_mb``: of the whole process, libraries included (on CUDA: allocated on the device);
        ``extra_mb``: what the measured call added to what its preparation had left in place.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_memory, sides, case, side, device).result()
    except Exception as error:
        raise RuntimeError(f"measuring the memory of {sides.__module__}, side {side!r}, failed: "
                           f"{type(error).__name__}: {error}") from error


def _memory(sides: Sides, case: dict, side: str, device: str) -> dict:
    with one_thread():
        call = sides(case, device)[side]()
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            early, before = 0.0, torch.cuda.memory_allocated() / 2**20
            call()
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            early = _peak_mb()
            with suppress(OSError):  # the kernel counts the peak anew from here, where it can
                Path("/proc/self/clear_refs").write_text("5")
            before = psutil.Process().memory_info().rss / 2**20
            call()
            peak = _peak_mb()
        return {"peak_mb": round(max(early, peak)), "extra_mb": round(max(0.0, peak - before))}


def _peak_mb() -> float:
    """MiB of this process at its peak."""
    with suppress(OSError):
        return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
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
    with suppress(OSError):
        if found := re.search(r"model name\s*:(.*)", Path("/proc/cpuinfo").read_text()):
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()
