"""Run chapters: execute each in a scratch place, clean, move into place, gather results."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from helpers import book, claims, costs, notebooks
from helpers.execute import FULL, ChapterError, Progress, environment, execute, kill_tree
from helpers.planning import Job, Options, plan
from helpers.project import UsageError, chapters

PLAIN_ERRORS = ("DataError", "StoreError", "OSError", "UsageError")


def settings(root: Path, out: Path, options: Options) -> dict[str, str | None]:
    """Return the kernel's ``SAME_NOISE_*`` variables for a run into `out`."""
    publish = out == root / "notebooks"
    isolated = options.fresh or out == root / "tests" / "notebooks"
    store = out / "store" if isolated else root / "_store"
    if out == root / "tests" / "notebooks":
        store = root / "_scratch" / "baseline-store"
    return {
        "store": os.environ.get("SAME_NOISE_STORE") if not isolated and
        os.environ.get("SAME_NOISE_STORE") else str(store),
        "results": "off" if isolated else str(root / "results"),
        "publish": "1" if publish else None,
        "figures": str(root / "results" / "figures") if publish else
        None if out == root / "tests" / "notebooks" else str(out / "figures"),
        "device": options.device,
        "workers": str(options.workers) if options.workers else None,
        "profile": options.profile,
    }


class Board:
    """Prints what happens: one moving line on a terminal, one line a chapter elsewhere."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.lock, self.running = threading.Lock(), {}

    def tick(self, slug: str, progress: Progress) -> None:
        self.running[slug] = progress
        if self.live:
            parts = [f"{name}: cell {p.cell} of {p.cells}, {clock(p.seconds)}, "
                     f"{p.peak_mb:.0f} MB at most" for name, p in list(self.running.items())]
            with self.lock:
                self.stream.write("\r\033[K" + " | ".join(parts))
                self.stream.flush()

    def say(self, line: str, slug: str = "") -> None:
        self.running.pop(slug, None)
        with self.lock:
            self.stream.write(("\r\033[K" if self.live else "") + line + "\n")
            self.stream.flush()


def clock(seconds: float) -> str:
    """Write seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def run_job(job: Job, env: dict[str, str], cwd: Path, progress: Progress, board: Board) -> None:
    """Execute one chapter and move it into place; the target changes only on success.

    Raises
    ------
    ChapterError
        If the chapter failed; the failed notebook is kept under ``failed`` beside the others
        (in ``_scratch/failed`` when publishing).
    """
    env = env | {"SAME_NOISE_SOURCE_HASH": job.run["source_hash"]}
    job.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=job.target.parent) as folder:
        source, done = Path(folder) / f"{job.slug}.ipynb", Path(folder) / "done.ipynb"
        notebooks.write(notebooks.clean(job.prepared, job.run), source)
        try:
            execute(source, done, cwd, env, progress, lambda p: board.tick(job.slug, p))
        except ChapterError as error:
            if done.is_file() and error.kind != "died" and FULL not in str(error):
                shown = _keep_failed(job, done)
                raise ChapterError(error.kind, f"{error} (the notebook so far: {shown})") from None
            raise
        notebooks.write(notebooks.clean(notebooks.read(done), job.run), job.target)


def _keep_failed(job: Job, done: Path) -> Path:
    folder = job.target.parent
    if folder.name == "notebooks":
        root = folder.parent if (folder / "profiles.yml").is_file() else folder.parent.parent
        folder = root / "_scratch"
    target = folder / "failed" / f"{job.slug}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(done, target)
    return target


def run(root: Path, options: Options, board: Board | None = None) -> list[Path]:
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
    board, jobs = board or Board(), plan(root, options)
    out = jobs[0].target.parent
    where = settings(root, out, options)
    if options.fresh or out == root / "tests" / "notebooks":
        shutil.rmtree(where["store"], ignore_errors=True)
    env, waiting = environment(**where), []
    for job in jobs:
        skip = out == root / "notebooks" and not options.force
        if skip and job.state == "fresh":
            board.say(f"{job.slug}: up to date")
        elif skip and job.state == "prose":
            executed = notebooks.read(job.target)
            notebooks.write(notebooks.refreshed(job.prepared, executed, job.run), job.target)
            board.say(f"{job.slug}: text refreshed, outputs kept")
        else:
            waiting.append(job)
    try:
        _run_all(waiting, env, out, options.jobs, board)
        if out == root / "notebooks":
            claims.write(root, [p.with_suffix(".ipynb") for p in chapters(root)
                                if p.with_suffix(".ipynb").is_file()])
            costs.write(root)
        if options.build:
            _build(root, out, [job.target for job in jobs], where, board)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UsageError(f"{FULL} ({error.filename or out}): free some space or choose another "
                         "--out; nothing published was changed") from error
    return [job.target for job in jobs]


def _run_all(jobs: list[Job], env: dict[str, str], out: Path, at_once: int, board: Board) -> None:
    progress = {job.slug: Progress() for job in jobs}

    def one(job: Job) -> None:
        began = time.monotonic()
        board.say(f"{job.slug}: running at profile {job.run['profile']}")
        try:
            run_job(job, env, out, progress[job.slug], board)
        except ChapterError as error:
            raise ChapterError(error.kind, f"chapter {job.slug} failed: {error}") from None
        board.say(f"{job.slug}: done in {clock(time.monotonic() - began)}, at most "
                  f"{progress[job.slug].peak_mb:.0f} MB", job.slug)

    pool = ThreadPoolExecutor(max(1, at_once))
    waiting = {pool.submit(one, job) for job in jobs}
    try:
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when="FIRST_EXCEPTION")
            for future in finished:
                future.result()
    except ChapterError as error:
        _stop(pool, progress)
        if error.kind in PLAIN_ERRORS or FULL in str(error):
            raise UsageError(f"{error}; nothing published was changed") from error
        raise
    except BaseException:
        _stop(pool, progress)
        raise
    pool.shutdown()


def _stop(pool: ThreadPoolExecutor, progress: dict[str, Progress]) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    for item in progress.values():
        if item.process is not None:
            kill_tree(item.process)
    pool.shutdown()


def _build(root: Path, out: Path, own: list[Path], where: dict[str, str | None],
           board: Board) -> None:
    if out == root / "notebooks":
        index = book.build(root, root)
    else:
        figures = where["figures"]
        book.copy_sources(root, out / "book", own, Path(figures) if figures else None)
        index = book.build(out / "book", out / "book")
    board.say(f"the book: {index}")
