"""Map a function over cells with local processes.

The processes are spawned, so `function` must be importable by name, and each computes with one
thread: a result does not depend on how many ran beside it. The parent imports no torch here.
"""

from __future__ import annotations

import multiprocessing
import os
import reprlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from tqdm import tqdm

THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_BAR = "{desc} {percentage:3.0f}%|{bar}| {postfix} [{elapsed}, {remaining} left]"
_in_worker = False

_short = reprlib.Repr()
_short.maxother, _short.maxstring, _short.maxtuple, _short.maxlist = 300, 80, 2, 2


class RemoteTraceback(Exception):
    """Cause of an exception from a worker: the traceback there, as text."""


def map_cells(function: Callable, cells: Sequence, *, workers: int | None = None,
              label: str = "cells", costs: Sequence[float] | None = None,
              progress: bool | None = None) -> list:
    """Return ``[function(cell) for cell in cells]``, computed by several processes.

    Parameters
    ----------
    function : callable
        Importable by name when more than one process is used (no lambda, nothing from a notebook).
    cells : sequence
        Arguments; they and the results must pickle (between these processes only).
    workers : int, optional
        Processes; by default one for each core this process may use. With at most one, or a single
        cell, everything happens here, also with one torch thread.
    label : str
        Name for the progress bar and for errors.
    costs : sequence of float, optional
        Expected relative costs: the longest cells start first, and the time left counts them.
    progress : bool, optional
        Force the bar on or off. By default it shows on a terminal, unless TQDM_DISABLE is set;
        never in a notebook.

    Returns
    -------
    list
        In the order of `cells`.

    Raises
    ------
    ValueError
        If `costs` has another length, or `function` cannot be imported by a process.
    RuntimeError
        If a process died, naming its cell.
    Exception
        The first exception of a cell, of its own type, naming the cell; the others are stopped.
    """
    cells = list(cells)
    weights = [1.0] * len(cells) if costs is None else [float(cost) for cost in costs]
    if len(weights) != len(cells):
        raise ValueError(f"{label}: {len(weights)} costs for {len(cells)} cells; give one each")
    order = sorted(range(len(cells)), key=lambda i: -weights[i])
    workers = min(cpu_count() if workers is None else workers, len(cells))
    results: list = [None] * len(cells)
    run = _here if workers <= 1 or _in_worker else _pool
    source = run(function, cells, order, workers, label)
    with _Bar(label, weights, progress) as bar, closing(source):
        for index, result in source:
            results[index] = result
            bar.tick(index)
    return results


def cpu_count() -> int:
    """Return the cores this process may use: its affinity and, in a container, its quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups, or "max": no quota
        pass
    return count or 1


def peak_mb() -> int:
    """Return this process's peak resident memory in MiB, without what its parent held."""
    try:
        status = Path("/proc/self/status").read_text()
        return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)
    except (OSError, IndexError):  # not Linux: the peak may count the parent before exec
        import resource

        scale = 2**20 if sys.platform == "darwin" else 2**10
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale)


class _Bar:
    """A progress bar that weighs cells by cost."""

    def __init__(self, label, weights, progress):
        quiet = os.environ.get("TQDM_DISABLE", "") not in ("", "0") or _in_notebook()
        shown = not quiet and sys.stderr.isatty() if progress is None else progress
        self.weights = weights if sum(weights) > 0 else [1.0] * len(weights)
        self.done = 0
        self.bar = tqdm(total=sum(self.weights), desc=label, disable=not shown or not weights,
                        bar_format=_BAR, smoothing=0, postfix=f"0/{len(weights)}")

    def tick(self, index: int) -> None:
        self.done += 1
        self.bar.set_postfix_str(f"{self.done}/{len(self.weights)}", refresh=False)
        self.bar.update(self.weights[index])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _here(function, cells, order, workers, label):
    """Yield (index, result) for each cell, computed in this process with one torch thread."""
    for index in order:
        try:
            with _one_thread():
                result = function(cells[index])
        except Exception as error:
            raise _named(error, label, index, cells) from error.__cause__
        yield index, result


@contextmanager
def _one_thread():
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pool(function, cells, order, workers, label):
    """Yield (index, result) as cells finish in spawned processes; always leave no process."""
    _check_importable(function)
    pending = list(reversed(order))
    processes, running, calm = [], {}, False
    try:
        for _ in range(workers):
            processes.append(_start())
        for _, pipe in processes:
            running[pipe] = _send(pipe, function, cells, pending.pop(), label)
        while running:
            for pipe in connection.wait(list(running)):
                index = running.pop(pipe)
                try:
                    good, value, text = pipe.recv()
                except (EOFError, OSError):
                    raise _death(processes, pipe, label, index, cells) from None
                if not good:
                    raise _named(value, label, index, cells) from RemoteTraceback(text)
                if pending:
                    running[pipe] = _send(pipe, function, cells, pending.pop(), label)
                yield index, value
        calm = True
    finally:
        _stop(processes, calm)


def _send(pipe, function, cells, index, label) -> int:
    try:
        pipe.send((function, cells[index]))
    except OSError:
        pass  # the process is gone, which reading from it will tell
    except Exception as error:
        raise _named(error, label, index, cells) from None
    return index


def _start():
    """Start one process and return it with the parent's end of its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    with _child_settings():
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def _child_settings():
    """Set what a child inherits at its birth, for as long as the block lasts.

    One thread for every numerical library; Ctrl-C held back, as the parent stops its children
    itself; and no main module, which a child would otherwise run again (a chapter run as a script
    would start over in every process).
    """
    main = sys.modules["__main__"]
    saved = {name: os.environ.get(name) for name in THREADS}
    spec, file = getattr(main, "__spec__", None), main.__dict__.pop("__file__", None)
    masked = hasattr(signal, "pthread_sigmask")
    if masked:
        resource_tracker.ensure_running()  # first, as it resets the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        main.__spec__ = None
        os.environ.update(dict.fromkeys(THREADS, "1"))
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _work(pipe) -> None:
    """Run in a child: answer each (function, cell) with (good, result or exception, traceback)."""
    global _in_worker
    _in_worker = True
    threading.Thread(target=_follow_parent, daemon=True).start()
    while True:
        try:
            request = pipe.recv_bytes()
        except (EOFError, OSError):  # the parent wants no more
            return
        try:
            function, cell = ForkingPickler.loads(request)
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(1)
            answer = True, function(cell), ""
        except Exception as error:
            answer = False, error, traceback.format_exc()
        _answer(pipe, answer)


def _answer(pipe, answer) -> None:
    good, value, text = answer
    try:
        if not good:  # an exception may pickle and yet not come back
            ForkingPickler.loads(ForkingPickler.dumps(value))
        pipe.send(answer)
    except Exception as error:
        shown = f"{type(error if good else value).__name__}: {error if good else value}"
        pipe.send((False, RuntimeError(shown), text or traceback.format_exc()))


def _follow_parent() -> None:
    """End this process when its parent is gone, however that went."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _stop(processes, calm: bool) -> None:
    for process, pipe in processes:
        if not calm:
            process.kill()
        pipe.close()
    for process, _ in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _check_importable(function) -> None:
    inner = getattr(function, "func", function)  # of a functools.partial
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    if "<" in name or inner.__module__ == "__main__":
        raise ValueError(
            f"{name} cannot be imported by a worker process: move it to a module, "
            "at the top level, or use workers=1"
        )


def _where(label, index, cells) -> str:
    shown = " ".join(_short.repr(cells[index]).split())
    return f"{label}: cell {index + 1} of {len(cells)}, {shown}"


def _named(error: Exception, label, index, cells) -> Exception:
    """Return the exception with the cell in its message (or, where that is not text, in a note)."""
    where = _where(label, index, cells)
    if len(error.args) == 1 and str(error) == error.args[0]:
        error.args = (f"{error.args[0]} [{where}]",)
    else:
        error.add_note(where)
    return error


def _death(processes, pipe, label, index, cells) -> RuntimeError:
    process = next(p for p, ours in processes if ours is pipe)
    process.join(5)
    code = process.exitcode
    hint = " (killed, often for lack of memory: try fewer workers)" if code == -9 else ""
    where = _where(label, index, cells)
    return RuntimeError(f"a process ended with exit code {code}{hint} [{where}]")
