"""Run chapters: execute each, clean, move into place, gather results."""

from __future__ import annotations

import copy
import errno
import os
import sys
import tempfile
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from helpers import book, claims, costs, notebooks
from helpers.execute import ChapterError, Progress, environment, execute, kill_tree, memory_mb
from helpers.planning import Job, plan
from helpers.project import UsageError, chapters, own_folder

# A ValueError names a value that a chapter or the package refuses.
PLAIN_ERRORS = ("DataError", "StoreError", "OSError", "UsageError", "ValueError")


def settings(root: Path, out: Path, options: Namespace) -> dict[str, str | None]:
    """Return the kernel's ``SAME_NOISE_*`` variables for a run into `out`."""
    publish, baseline = out == root / "notebooks", out == root / "tests" / "notebooks"
    if baseline:
        store = root / "_scratch" / "baseline-store"
    elif options.fresh:
        store = out / "store"
    else:
        store = os.environ.get("SAME_NOISE_STORE") or root / "_store"
    figures = root / "results" / "figures" if publish else out / "figures"
    return {
        "store": str(store),
        "results": "off" if options.fresh or baseline else str(root / "results"),
        "publish": "1" if publish else None,
        "figures": None if baseline else str(figures),
        "device": options.device,
        "workers": str(options.workers) if options.workers else None,
        "profile": options.profile,
    }


class Board:
    """Prints what happens: one moving line on a terminal, one line a chapter elsewhere."""

    def __init__(self):
        self.clear = "\r\033[K" if sys.stdout.isatty() else ""

    def tick(self, progress: dict[str, Progress]) -> None:
        """Take the memory of the running chapters and show where they are."""
        running = {slug: item for slug, item in progress.items() if item.kernel}
        for item in running.values():
            item.peak_mb = max(item.peak_mb, memory_mb(item.kernel))
        if self.clear:
            parts = [f"{slug}: cell {p.cell} of {p.cells}, {clock(time.monotonic() - p.began)}, "
                     f"{p.peak_mb:.0f} MB at most" for slug, p in running.items()]
            print(self.clear + " | ".join(parts), end="", flush=True)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        print(self.clear + line, flush=True)


def clock(seconds: float) -> str:
    """Write seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shown(path: Path) -> str:
    """Write a path as seen from the working directory, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def run_job(job: Job, env: dict[str, str], failed: Path, progress: Progress) -> None:
    """Execute one chapter and move it into place; the target changes only on success.

    Raises
    ------
    ChapterError
        If the chapter failed; the notebook so far is kept in the folder `failed`.
    """
    executed = notebooks.clean(copy.deepcopy(job.prepared), job.run)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    try:
        execute(executed, job.target.parent, env | {"SAME_NOISE_SOURCE_HASH":
                                                    job.run["source_hash"]}, progress)
    except ChapterError as error:
        if progress.stopped:
            raise
        kept = failed / job.target.name
        notebooks.write(notebooks.clean(executed, job.run), kept)
        raise ChapterError(error.kind, f"chapter {job.slug} failed: {error} (the notebook so far: "
                           f"{shown(kept)})") from None
    notebooks.write(notebooks.clean(executed, job.run), job.target)


def run(root: Path, options: Namespace) -> list[Path]:
    """Run the chosen chapters; returns the notebooks now in place.

    Raises
    ------
    UsageError
        For anything wrong with the request or the disk, before or while running.
    ChapterError
        If a chapter's own code failed.
    KeyboardInterrupt
        After killing every kernel and worker.
    """
    board, jobs = Board(), plan(root, options)
    out = jobs[0].target.parent
    publish, where = out == root / "notebooks", settings(root, out, options)
    for folder in [out, Path(where["store"]), *([root / "results"] if publish else [])]:
        _writable(folder)
    if where["results"] == "off":
        own_folder(Path(where["store"]))
    if options.build and not publish:
        own_folder(out / "book")
    waiting = []
    for job in jobs:
        skip = publish and not options.force
        if skip and job.state == "fresh":
            board.say(f"{job.slug}: up to date")
        elif skip and job.state == "prose":
            executed = notebooks.read(job.target)
            notebooks.write(notebooks.refreshed(job.prepared, executed, job.run), job.target)
            board.say(f"{job.slug}: text refreshed, outputs kept")
        else:
            waiting.append(job)
    scratch = root / "_scratch" if publish or where["figures"] is None else out
    try:
        _run_all(waiting, environment(**where), scratch / "failed", options.jobs, board)
        if publish:
            claims.write(root, [path.with_suffix(".ipynb") for path in chapters(root)
                                if path.with_suffix(".ipynb").is_file()])
            costs.write(root)
        if options.build:
            source = root
            if not publish:
                source = out / "book"
                book.copy_sources(root, source, [job.target for job in jobs], where["figures"])
            board.say(f"the book: {book.build(source, source)}")
    except OSError as error:
        full = error.errno == errno.ENOSPC or f"[Errno {errno.ENOSPC}]" in str(error)
        if not full:
            raise
        raise UsageError(f"no space left on the device ({error.filename or out}): free some space "
                         "or choose another --out; nothing published was changed") from error
    return [job.target for job in jobs]


def _writable(folder: Path) -> None:
    """Refuse, before any training, a folder that cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror or error}): free some "
                         "space or choose another folder") from error


def _run_all(jobs: list[Job], env: dict[str, str], failed: Path, at_once: int,
             board: Board) -> None:
    progress = {job.slug: Progress() for job in jobs}

    def one(job: Job) -> None:
        mine = progress[job.slug]
        board.say(f"{job.slug}: running at profile {job.run['profile']}")
        mine.began = time.monotonic()
        run_job(job, env, failed, mine)
        board.say(f"{job.slug}: done in {clock(time.monotonic() - mine.began)}, at most "
                  f"{mine.peak_mb:.0f} MB: {shown(job.target)}")

    pool = ThreadPoolExecutor(at_once)
    futures = waiting = {pool.submit(one, job) for job in jobs}
    try:
        while waiting:
            finished, waiting = wait(waiting, timeout=0.5, return_when="FIRST_EXCEPTION")
            for future in finished:
                future.result()
            board.tick(progress)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            for item in progress.values():
                item.stopped = True
                kill_tree(item.kernel)
            time.sleep(0.1)
        if isinstance(error, ChapterError) and error.kind in PLAIN_ERRORS:
            raise UsageError(f"{error}; nothing published was changed") from error
        raise
