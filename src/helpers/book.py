"""Build the book: strictly, from nothing, with the published notebooks or with a reader's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from helpers.project import UsageError, own_folder

COPIED = ("_config.yml", "_toc.yml", "LICENSE", "CITATION.cff", "CHANGELOG.md", "README.md")
STRICT = ("-W", "-n", "--keep-going")


def build(source: Path, out: Path, builder: tuple[str, ...] = ()) -> Path:
    """Build the book in `source` into ``out/_build`` after removing what was there.

    An earlier build is removed because Sphinx forgets warnings of unchanged pages.

    Returns
    -------
    Path
        The ``index.html``.

    Raises
    ------
    UsageError
        If `source` holds no book or Jupyter Book is not installed.
    RuntimeError
        If the build failed or warned; its messages have been printed.
    """
    for name in ("_config.yml", "_toc.yml"):
        if not (source / name).is_file():
            raise UsageError(f"no {name} in {source}: that is not the folder of a book")
    try:
        import jupyter_book  # noqa: F401
    except ImportError as error:
        raise UsageError("building needs jupyter-book 1.x: pip install -e '.[docs]'") from error
    target = own_folder(out / "_build")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from jupyter_book.cli.main import main; "
         "sys.exit(main())", "build", str(source), "--path-output", str(out), *STRICT, *builder],
        capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise RuntimeError("the book did not build without warnings (see above)")
    return target / "html" / "index.html"


def copy_sources(root: Path, target: Path, own: Iterable[Path], figures: str | None) -> None:
    """Copy the book's sources to `target`, with a reader's own notebooks in place of ours.

    Chapters that the reader did not run keep their published notebook; the scoreboard is made
    from what the copy then shows.

    Parameters
    ----------
    root, target : Path
        Folder of the book and of the copy (emptied first).
    own : iterable of Path
        The reader's executed notebooks.
    figures : str or None
        Folder of the figures that the reader's run saved for other pages.
    """
    from helpers import claims

    own_folder(target)
    for name in COPIED:
        if (root / name).is_file():
            shutil.copy2(root / name, target / name)
    shutil.copytree(root / "book", target / "book")
    (target / "notebooks").mkdir()
    chosen = {path.name: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    chosen |= {path.name: path for path in own}
    for name, path in chosen.items():
        shutil.copy2(path, target / "notebooks" / name)
    for folder in (root / "results" / "figures", figures):
        if folder is not None and Path(folder).is_dir():
            shutil.copytree(folder, target / "results" / "figures", dirs_exist_ok=True)
    claims.write(root, (target / "notebooks").glob("*.ipynb"), target)
