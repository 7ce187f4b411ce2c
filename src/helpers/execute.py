"""Execute one prepared chapter in a kernel of its own, which can be watched and killed."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

SOURCE = Path(__file__).resolve().parents[1]


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
    began: float = 0.0
    peak_mb: float = 0.0
    kernel: int | None = None
    stopped: bool = False


def environment(**settings: str | None) -> dict[str, str]:
    """Return the environment of a chapter's kernel: one thread, fixed hashing, offline, no bars.

    `settings` go in as ``SAME_NOISE_<NAME>``; None leaves a variable out, even if it was set.
    """
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("SAME_NOISE_") and name != "MPLBACKEND"}
    path = [str(SOURCE), *filter(None, [env.get("PYTHONPATH")])]
    env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore:IProgress not found",  # bars are off; ipywidgets is not used
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONPATH": os.pathsep.join(path)}
    return env | {f"SAME_NOISE_{name.upper()}": value for name, value in settings.items()
                  if value is not None}


def _family(pid: int | None) -> list:
    """Return a process and everything it started; empty once it is gone."""
    import psutil

    try:
        parent = psutil.Process(pid) if pid else None
        return [parent, *parent.children(recursive=True)] if parent else []
    except psutil.NoSuchProcess:
        return []


def kill_tree(pid: int | None) -> None:
    """Kill a process and everything it started, at once and for good."""
    import psutil

    for member in _family(pid):
        with suppress(psutil.NoSuchProcess):
            member.kill()


def memory_mb(pid: int | None) -> float:
    """Memory of a process tree in MB, pages shared between its members counted once."""
    import psutil

    total = 0
    for member in _family(pid):
        with suppress(psutil.Error, OSError):
            full = member.memory_full_info()
            total += getattr(full, "pss", full.uss)
    return total / 1e6


def execute(notebook, cwd: Path, env: dict[str, str], progress: Progress) -> None:
    """Execute a notebook in place; returns when it has run to its end.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Prepared notebook; holds the outputs so far if a cell fails.
    cwd : Path
        The kernel's working directory.
    env : dict
        The kernel's whole environment (`environment`).
    progress : Progress
        Filled in while the chapter runs; `progress.kernel` is what `kill_tree` wants.

    Raises
    ------
    ChapterError
        If a cell raised or the kernel died.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    def started(cell, cell_index: int) -> None:
        progress.kernel = client.km.provisioner.pid
        progress.cell, progress.cells = cell_index + 1, len(notebook.cells)

    client = NotebookClient(notebook, kernel_name="python3", timeout=None, record_timing=False,
                            on_cell_start=started)
    try:
        client.execute(cwd=str(cwd), env=env, stdout=DEVNULL, stderr=DEVNULL)
    except CellExecutionError as error:
        raise ChapterError(error.ename, f"cell {progress.cell - 1}: {error.ename}: "
                           f"{error.evalue}") from None
    except Exception as error:  # no kernel, a kernel killed for its memory, ...
        raise ChapterError(type(error).__name__, f"{type(error).__name__}: {error}") from error
    finally:
        progress.kernel = None
