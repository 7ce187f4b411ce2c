"""Execute one prepared chapter in a process tree of its own, watch it, and be able to kill it.

The parent calls `execute`; the child is ``python -m helpers.execute``, which reads a request from
its standard input, runs papermill and reports one JSON object a line on its standard output.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
FULL = "no space left on the device"


class ChapterError(Exception):
    """A chapter failed; `kind` is the exception's class name, the text is one line."""

    def __init__(self, kind: str, message: str):
        super().__init__(" ".join(message.split()))
        self.kind = kind


@dataclass
class Progress:
    """Where a running chapter is: cell `cell` of `cells` (0 of 0 before the kernel is up)."""

    cell: int = 0
    cells: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    process: Any = field(default=None, repr=False)


def environment(**settings: str | None) -> dict[str, str]:
    """Return the environment of a chapter's kernel: one thread, fixed hashing, offline, no bars.

    `settings` go in as ``SAME_NOISE_<NAME>``; None leaves a variable out, even if it was set.
    """
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("SAME_NOISE_") and name not in ("MPLBACKEND",)}
    path = [str(PACKAGE.parent), *filter(None, [env.get("PYTHONPATH")])]
    env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONPATH": os.pathsep.join(path)}
    return env | {f"SAME_NOISE_{name.upper()}": value for name, value in settings.items()
                  if value is not None}


def kill_tree(process: subprocess.Popen) -> None:
    """Kill a process and everything it started, at once and for good."""
    import psutil

    try:
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            pass
    process.wait()


def _memory_mb(process: subprocess.Popen) -> float:
    """Memory of a process tree in MB, pages shared between its members counted once."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for member in family:
        try:
            full = member.memory_full_info()
            total += getattr(full, "pss", full.uss)
        except (psutil.Error, OSError):
            continue
    return total / 1e6


def execute(source: Path, target: Path, cwd: Path, env: dict[str, str], progress: Progress,
            tick: Callable[[Progress], None] = lambda progress: None) -> None:
    """Execute notebook `source` into `target`; returns when it has run to its end.

    Parameters
    ----------
    source, target, cwd : Path
        Prepared notebook, executed notebook (temporary, both), the kernel's working directory.
    env : dict
        The kernel's whole environment (`environment`).
    progress : Progress
        Filled in while the chapter runs; `progress.process` is the child, for `kill_tree`.
    tick : callable
        Called about twice a second with `progress`.

    Raises
    ------
    ChapterError
        If a cell raised, the disk is full or the child died.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "helpers.execute"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=env, text=True, start_new_session=True)
    progress.process = child
    last, errors = {}, deque(maxlen=20)

    def listen() -> None:
        for line in child.stdout:
            last.update(json.loads(line))
            progress.cell = last.get("cell", 0)
            progress.cells = last.get("cells", 0)

    threads = [threading.Thread(target=listen, daemon=True),
               threading.Thread(target=lambda: errors.extend(child.stderr), daemon=True)]
    for thread in threads:
        thread.start()
    try:
        child.stdin.write(json.dumps({"source": str(source), "target": str(target),
                                      "cwd": str(cwd)}))
        child.stdin.close()
        began = time.monotonic()
        while child.poll() is None:
            progress.seconds = time.monotonic() - began
            progress.peak_mb = max(progress.peak_mb, _memory_mb(child))
            tick(progress)
            try:
                child.wait(0.5)
            except subprocess.TimeoutExpired:
                pass
        progress.seconds = time.monotonic() - began
    except BaseException:
        kill_tree(child)
        raise
    for thread in threads:
        thread.join(timeout=5)
    if child.returncode:
        tail = errors[-1].strip() if errors else f"exit status {child.returncode}"
        raise ChapterError(last.get("error", "died"), last.get("message", tail))


def _child() -> int:
    """Run papermill on the request in standard input; the child's side of `execute`."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the kernel and its workers print on descriptor 1 is no report

    def say(**message: Any) -> None:
        report.write(json.dumps(message) + "\n")
        report.flush()

    request = json.loads(sys.stdin.read())
    import logging

    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    cells = len(nbformat.read(request["source"], as_version=4).cells)
    try:
        papermill.execute_notebook(
            request["source"], request["target"], kernel_name="python3", cwd=request["cwd"],
            progress_bar=False,
            on_cell_start=lambda cell, cell_index: say(cell=cell_index + 1, cells=cells))
    except PapermillExecutionError as error:
        say(error=error.ename, message=f"cell {error.cell_index}: {error.ename}: {error.evalue}")
        return 3
    except OSError as error:
        message = FULL if error.errno == errno.ENOSPC else str(error)
        say(error="OSError", message=message)
        return 3
    except Exception as error:  # no kernel, a kernel killed for its memory, ...
        say(error=type(error).__name__, message=f"{type(error).__name__}: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(_child())
