"""Plan a run: which chapters, with which parameters, to which folder. Nothing is executed here.

`options` are the parsed arguments of ``python -m helpers run`` (`helpers.run.parser`).
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import notebooks
from helpers.project import Parameter, UsageError, parse_value, pick, resolve, unknown_parameter

DATA_FILES = (".npz", ".safetensors", ".parquet", ".csv")


@dataclass(frozen=True)
class Job:
    """One chapter ready to run: `prepared` notebook, `run` metadata, `target` and its state."""

    slug: str
    prepared: Any
    run: dict[str, Any]
    target: Path
    state: str


def overrides_for(known: dict[str, dict[str, Parameter]],
                  given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Check the names, types and files of the command line's parameters, before anything runs.

    Raises
    ------
    UsageError
        For a name that no chosen chapter has, a wrong type, or a data file that is not there or
        breaks the rules for a reader's own images. (A table is read by `plan`.)
    """
    checked = {}
    for name, text in given:
        having = [parameters for parameters in known.values() if name in parameters]
        if not having:
            raise unknown_parameter(name, set().union(*known.values()), " and ".join(known) if
                                    len(known) < 3 else "the chosen chapters")
        value = parse_value(having[0][name], text)
        named = name in ("dataset", "table") or name.endswith("_file")
        if named and isinstance(value, str) and (
                "/" in value or os.sep in value or value.lower().endswith(DATA_FILES)):
            path = Path(value).expanduser().absolute()
            if not path.is_file():
                raise UsageError(f"-p {name}: there is no file {value}")
            if name != "table":  # that needs its label and property: see `plan`
                _check_data(path)
            text = str(path)
        checked[name] = text
    return checked


def _check_data(path: Path) -> None:
    from helpers.datasets import load

    try:
        load(path)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def _check_table(values: dict[str, Any]) -> None:
    """Load a chapter's table with its property and label, so that a bad column stops it here."""
    from helpers.tables import load

    try:
        load(values["table"], **{name: values[name] for name in ("property", "label")
                                 if values.get(name)})
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def out_folder(root: Path, options: Namespace) -> Path:
    """Return where notebooks go, refusing to overwrite anything published with something else.

    Only an unmodified run may write to ``notebooks`` (profile laptop) or ``tests/notebooks``
    (profile quick); without ``--out`` every other run goes to ``_scratch/run``.
    """
    published = {root / "notebooks": "laptop", root / "tests" / "notebooks": "quick"}
    plain = not options.parameter and options.device in ("auto", "cpu")
    if options.out is None:
        publish = plain and not options.fresh and options.profile == "laptop"
        return root / "notebooks" if publish else root / "_scratch" / "run"
    out = options.out.expanduser().resolve()
    if out in published and not (plain and options.profile == published[out]):
        raise UsageError(f"{out.relative_to(root)} holds the published chapters and takes only an "
                         f"unmodified run at profile {published[out]}: choose another --out")
    if options.fresh and out == root / "notebooks":
        raise UsageError("--fresh ignores the published measurements, so it cannot write to "
                         "notebooks: choose another --out")
    kept = [root / name for name in ("results", "src", "book", "data", ".git")]
    if out in (root, root / "tests", *root.parents) or any(map(out.is_relative_to, kept)):
        raise UsageError(f"--out {options.out} is part of the book itself or holds it: choose "
                         "another folder")
    return out


def plan(root: Path, options: Namespace) -> list[Job]:
    """Read, check and prepare every chosen chapter; nothing is written or executed.

    Raises
    ------
    UsageError
        As `overrides_for`, or for a table, property or label of the command line that do not fit.
    """
    out = out_folder(root, options)
    scripts = {path.stem: notebooks.read_script(path) for path in pick(root, options.chapters)}
    known = {slug: notebooks.parameters_of(script, slug) for slug, script in scripts.items()}
    given = overrides_for(known, options.parameter)
    jobs = []
    for slug, script in scripts.items():
        chosen = resolve(root, options.profile, slug, known[slug], given)
        run = notebooks.run_of(root, script, slug, options.profile, chosen)
        if (run["parameters"].get("table")  # empty: none, where a chapter allows that
                and given.keys() & {"table", "property", "label"}):
            _check_table(run["parameters"])
        prepared = notebooks.inject(script, options.profile, chosen)
        target = out / f"{slug}.ipynb"
        jobs.append(Job(slug, prepared, run, target, notebooks.state(prepared, target, run)))
    return jobs
