"""Open a chapter: parameters, store, device, numbers for the prose, verdicts, provenance.

A chapter calls `begin` once and then only the methods of the `Chapter` it returns. Numbers travel
to the page through displayed records, in the form that the book's ``{glue:text}`` role reads, so
that no documentation package is needed where a chapter runs.

Environment variables, set by ``python -m helpers run`` and optional everywhere else:

==========================  =======================================================================
``SAME_NOISE_STORE``        folder of the store (default ``_store`` in the book, else user's cache)
``SAME_NOISE_RESULTS``      folder of the published measurements, or ``off`` (default ``results``)
``SAME_NOISE_PUBLISH``      ``1`` when measurements go to the published folder
``SAME_NOISE_DEVICE``       ``auto``, ``cpu`` or ``cuda``
``SAME_NOISE_WORKERS``      number of worker processes
``SAME_NOISE_PROFILE``      name of the profile, for the provenance box
``SAME_NOISE_SOURCE_HASH``  hash of code and parameters, for the provenance box
``SAME_NOISE_FIGURES``      folder that `Chapter.save_figure` writes to
``SAME_NOISE_RECORDS``      file that every record is appended to, one JSON object a line
==========================  =======================================================================
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from helpers import verdicts
from helpers.project import default_store, find_root
from helpers.store import Store

NAME = re.compile(r"[a-z][a-z0-9_]*")
GROUPED = re.compile(r"[-+0-9.]+(,\s*[0-9.]+)+")


class CountingStore(Store):
    """A store that remembers which keys were there at the start and which were read or written."""

    def __init__(self, root: Path, results: Path | None = None, publish: bool = False):
        super().__init__(root, results, publish)
        self.known = set(self.keys())
        self.touched: set[str] = set()

    def get(self, key: str):
        entry = super().get(key)
        if entry is not None:
            self.touched.add(key)
        return entry

    def put(self, key: str, *args, **kwargs):
        entry = super().put(key, *args, **kwargs)
        self.touched.add(key)
        return entry

    def computed(self) -> set[str]:
        """Keys that are in the store now and were not when the chapter began."""
        return set(self.keys()) - self.known

    def read(self) -> set[str]:
        """Keys that were there when the chapter began and that it read."""
        return self.touched & self.known


@dataclass
class Chapter:
    """An open chapter; see `begin`."""

    slug: str
    parameters: dict[str, Any]
    profile: str
    device: str
    workers: int | None
    store: CountingStore
    root: Path | None
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdicts: list[verdicts.Verdict] = field(default_factory=list)

    def bank(self, count: int | None = None):
        """Return the published noise bank (`helpers.noise.Bank`, seed 0).

        `count` defaults to the chapter's parameter ``noises``, or to 1024 without one. The
        chapter's own seed never changes the bank, so every model of every chapter shares it.
        """
        from helpers.noise import Bank

        return Bank(count=int(count or self.parameters.get("noises", 1024)))

    def record(self, name: str, value: Any, fmt: str = "", unit: str = "") -> Any:
        """Give a number a name, for the prose, the scoreboard and the tests; return it unchanged.

        Parameters
        ----------
        name : str
            Lower-case words joined by underscores, unique in the chapter. The prose writes it as
            ``{glue:text}`` followed by the name in backquotes.
        value : number, text or Interval
            An Interval prints as ``value [low, high]``.
        fmt : str
            Format of each number, such as ``.2f`` (the default for an Interval).
        unit : str
            Unit, for the table of measurements; not printed.

        Raises
        ------
        ValueError
            If the name is not of that form or already taken.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"record name {name!r}: use lower-case letters, digits, underscores")
        if name in self.records:
            raise ValueError(f"record {name!r} was already made in chapter {self.slug}; "
                             "choose another name")
        centre, low, high = _ends(value)
        if low is not None or high is not None:
            shown = verdicts.text(centre, fmt or ".2f", low, high)
        else:
            shown = centre if isinstance(centre, str) else format(centre, fmt)
        entry = {"name": name, "text": shown, "value": verdicts.finite(centre),
                 "low": verdicts.finite(low), "high": verdicts.finite(high), "unit": unit}
        self.records[name] = entry
        # The role evaluates what it is given: unquoted, "16,384" would become a pair of numbers.
        quoted = repr(shown) if GROUPED.fullmatch(shown) else shown
        _display({verdicts.RECORD_MIME + "text/plain": quoted}, {
            "scrapbook": {"name": name, "mime_prefix": verdicts.RECORD_MIME},
            verdicts.KEPT: {"record": entry}})
        if os.environ.get("SAME_NOISE_RECORDS"):
            with open(os.environ["SAME_NOISE_RECORDS"], "a", encoding="utf-8") as file:
                file.write(json.dumps({"chapter": self.slug, **entry}) + "\n")
        return value

    def record_all(self, fmt: str = "", unit: str = "", **values: Any) -> None:
        """Record several numbers of one format and unit, each under its keyword; see `record`."""
        for name, value in values.items():
            self.record(name, value, fmt, unit)

    def table(self, header, rows, name: str, caption: str) -> None:
        """Display a numbered table; numbers and intervals are written with two decimals.

        The cell needs the tag ``nbval-ignore-output`` and the metadata
        ``mystnb={"markdown_format": "myst"}``.
        """
        body = verdicts.table(header, [[verdicts.text(*_shown(part)) for part in row]
                                       for row in rows])
        _display({"text/markdown": verdicts.directive(body, name, caption), "text/plain": body})

    def verdict(self, claim: str, rule: str, *, value: Any, point_holds: bool,
                interval_holds: bool | None = None, interval_wrong: bool = False,
                some_settings: bool = False, paper: str = "", null: Any = None,
                baseline: Any = None, unit: str = "", fmt: str = ".2f") -> str:
        """Judge a claim by its pre-registered rule and keep the row for `verdict_table`.

        Parameters
        ----------
        claim : str
            The claim's number, such as ``C1``; one verdict a claim in each chapter.
        rule : str
            The rule's text, from the parameters cell.
        value : Interval, number or text
            Our number.
        point_holds, interval_holds, interval_wrong, some_settings
            The rule's outcome (`helpers.verdicts.word`; `at_least` and `at_most` make it from an
            Interval and a limit, `every` joins several).
        paper : str
            The paper's number, as text; empty where it gives none.
        null, baseline : number, text, Interval or None
            The permuted-noise null and the trivial baseline on the same scale.
        unit, fmt : str
            Unit printed after our number, and the format of all numbers.

        Returns
        -------
        str
            "reproduced", "partly", "not reproduced" or "refuted".
        """
        if any(item.claim == claim for item in self.verdicts):
            raise ValueError(f"claim {claim!r} already has a verdict in chapter {self.slug}")
        centre, low, high = _ends(value)
        controls = [_ends(control) for control in (null, baseline)]
        found = verdicts.word(point_holds, interval_holds, interval_wrong, some_settings)
        self.verdicts.append(verdicts.Verdict(
            claim, rule, paper, verdicts.finite(centre), verdicts.finite(low),
            verdicts.finite(high),
            *(part[0] if part[1] is None else verdicts.text(part[0], fmt, *part[1:])
              for part in controls), found, unit, fmt))
        return found

    def verdict_table(self, name: str, caption: str, *, fixed: bool = True) -> None:
        """Display the chapter's verdicts as a numbered table and hand them to the scoreboard.

        The cell needs the tag ``nbval-ignore-output`` and the metadata
        ``mystnb={"markdown_format": "myst"}``. With `fixed` the header says that the rules were
        written before the run.
        """
        rows = verdicts.verdict_rows([item.as_json() for item in self.verdicts])
        body = verdicts.table(verdicts.verdict_header(fixed), rows)
        _display({"text/markdown": verdicts.directive(body, name, caption), "text/plain": body},
                 {verdicts.KEPT: {"verdicts": [item.as_json() for item in self.verdicts]}})

    def verdict_words(self) -> None:
        """Print one line a claim, without numbers: what the tests compare strictly."""
        for item in self.verdicts:
            print(f"{item.claim}: {item.verdict}")

    def save_figure(self, figure, name: str) -> Path | None:
        """Save a figure for other pages as ``<chapter>_<name>.png``; None where nothing is kept.

        The runner sets the folder: ``results/figures`` for the published run, the scratch folder
        for any other. The file holds no date, so equal figures give equal bytes.
        """
        folder = os.environ.get("SAME_NOISE_FIGURES")
        if not folder:
            return None
        path = Path(folder) / f"{self.slug}_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, facecolor="white", bbox_inches="tight",
                       metadata={"Software": None})
        return path

    def provenance(self) -> None:
        """Display how these numbers came to be; the cell needs the tag ``nbval-ignore-output``."""
        computed, read = self.store.computed(), self.store.read()
        versions = {name: version for name in ("torch", "diffusers", "numpy", "scipy")
                    if (version := _version(name))}
        rows = [
            ("profile", self.profile),
            ("parameters", ", ".join(f"{k} = {v!r}" for k, v in self.parameters.items())),
            ("seed", str(self.parameters.get("seed", "–"))),
            ("versions", ", ".join([f"Python {platform.python_version()}",
                                    *(f"{k} {v}" for k, v in versions.items())])),
            ("device", _device_name(self.device)),
            ("threads", f"{os.environ.get('OMP_NUM_THREADS', 'not set')} a process, "
                        f"{self.workers or 'default'} worker processes"),
            ("source hash", os.environ.get("SAME_NOISE_SOURCE_HASH", "not run by the runner")[:16]),
            ("cells", f"{len(computed)} computed, {len(read)} read from the store"),
        ]
        body = verdicts.table(("What", "Value"), rows)
        _display({
            "text/markdown": f":::{{admonition}} Provenance\n:class: dropdown\n\n{body}\n\n:::",
            "text/plain": "\n".join(f"{what}: {value}" for what, value in rows),
        }, {verdicts.KEPT: {"run": {"device": self.device, "versions": versions,
                                    "keys": sorted(self.store.touched)}}})


def begin(slug: str, parameters: Mapping[str, Any]) -> Chapter:
    """Open a chapter.

    Parameters
    ----------
    slug : str
        The chapter's name, ``NN_slug``.
    parameters : mapping
        Its parameters, or simply ``globals()``: then the annotated names are taken, which at this
        point of a chapter are those of the parameters cell.

    Returns
    -------
    Chapter

    Raises
    ------
    ValueError
        If the device is unknown, or CUDA is asked for and there is none.
    """
    if "__builtins__" in parameters or "__name__" in parameters:
        parameters = {name: parameters[name] for name in parameters.get("__annotations__", ())
                      if name in parameters}
    root = find_root()
    results: Path | None = None
    where = os.environ.get("SAME_NOISE_RESULTS")
    if where != "off":
        results = Path(where) if where else (root / "results" if root else None)
    store = CountingStore(Path(os.environ.get("SAME_NOISE_STORE") or default_store(root)), results,
                          os.environ.get("SAME_NOISE_PUBLISH") == "1")
    workers = os.environ.get("SAME_NOISE_WORKERS")
    device = _device(os.environ.get("SAME_NOISE_DEVICE") or "auto")
    return Chapter(slug, dict(parameters), os.environ.get("SAME_NOISE_PROFILE") or "laptop", device,
                   int(workers) if workers else None, store, root)


def _ends(value: Any) -> tuple[Any, Any, Any]:
    """Split an Interval into value, low and high; (value, None, None) for anything else."""
    if all(hasattr(value, name) for name in ("value", "low", "high")):
        return tuple(verdicts.plain(getattr(value, name)) for name in ("value", "low", "high"))
    return verdicts.plain(value), None, None


def _shown(value: Any) -> tuple[Any, ...]:
    centre, low, high = _ends(value)
    return centre, ".2f", verdicts.finite(low), verdicts.finite(high)


def _display(bundle: dict[str, Any], about: dict[str, Any] | None = None) -> None:
    from IPython.display import display

    display(bundle, raw=True, metadata=about or {})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(name: str) -> str:
    """Return "cpu" or "cuda"; torch computes with as many threads as OMP_NUM_THREADS says."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}: use auto, cpu or cuda")
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds none: use auto or cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _device_name(device: str) -> str:
    if device != "cuda":
        return f"{device} ({platform.machine()})"
    import torch

    return f"cuda ({torch.cuda.get_device_name()})"
