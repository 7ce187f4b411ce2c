"""The scoreboard: what every chapter found about every claim, gathered from executed notebooks.

Chapters hand over their records and verdicts as notebook outputs; this module only collects. It
writes three things: ``results/claims.json`` (everything), ``results/measurements.parquet`` (one
table for people who want the numbers) and ``book/_generated/claims_table.md`` (what readers see).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers import notebooks, verdicts
from helpers.project import UsageError

TABLE = Path("book") / "_generated" / "claims_table.md"
JSON = Path("results") / "claims.json"
PARQUET = Path("results") / "measurements.parquet"

BADGES = {"reproduced": "bdg-success", "partly": "bdg-warning", "not reproduced": "bdg-secondary",
          "refuted": "bdg-danger", "not yet": "bdg-light"}
COLUMNS = ("profile", "chapter", "kind", "name", "text", "value", "low", "high", "unit", "rule",
           "paper", "null", "baseline", "verdict")
NUMBERS = ("value", "low", "high")
LEGEND = ("● reproduced: the rule holds with its whole 95 % interval · ◐ partly: the estimate "
          "meets the rule but its interval does not, or only some settings meet it · "
          "○ not reproduced · ✕ refuted: the interval lies on the wrong side · … not yet run")


def collect(paths: Iterable[Path]) -> dict[str, Any]:
    """Gather run, records and verdicts of executed notebooks, keyed by chapter.

    Raises
    ------
    UsageError
        If a notebook holds no run metadata (it was not written by the runner).
    """
    found = {}
    for path in sorted(paths, key=lambda item: item.stem):
        book = notebooks.read(path)
        if "run" not in book.metadata:
            raise UsageError(f"{path.name} has no run metadata: execute it with "
                             f"`python -m helpers run {path.stem[:2]}`")
        chapter: dict[str, Any] = {**book.metadata["run"], "records": [], "verdicts": [],
                                   "keys": []}
        for kept in notebooks.kept(book):
            chapter["records"] += [kept["record"]] if "record" in kept else []
            chapter["verdicts"] += kept.get("verdicts", [])
            chapter["keys"] += kept.get("run", {}).get("keys", [])
        found[path.stem] = json.loads(json.dumps(chapter))
    return found


def load_claims(root: Path) -> list[dict[str, Any]]:
    """Read ``book/claims.yml``: parts with a title, a name and their claims."""
    import yaml

    path = root / "book" / "claims.yml"
    if not path.is_file():
        return []
    return yaml.safe_load(path.read_text("utf-8"))["parts"]


def table(parts: list[dict[str, Any]], found: dict[str, Any]) -> str:
    """Write the scoreboard in MyST Markdown: one numbered table a part, one row a claim."""
    profiles = sorted({chapter["profile"] for chapter in found.values()})
    blocks = ["<!-- made by `python -m helpers run`; edit book/claims.yml instead -->",
              f"Profile of the numbers: {', '.join(profiles) or 'none yet'}. {LEGEND}."]
    for part in parts:
        rows = [_row(claim, found) for claim in part["claims"]]
        body = verdicts.table(("No.", "Claim", "Chapter", "Paper", "Ours [95 % interval]", "Null",
                               "Verdict"), rows)
        blocks.append(verdicts.directive(body, f"tab:claims-{part['name']}", part["title"]))
    return "\n\n".join(blocks) + "\n"


def _row(claim: dict[str, Any], found: dict[str, Any]) -> list[str]:
    own = claim["chapter"]  # its own chapter's verdict counts, else the first that judged it
    slug, item = next(((slug, item) for slug in sorted(found, key=lambda slug: slug != own)
                       for item in found[slug]["verdicts"] if item["claim"] == claim["id"]),
                      (own, None))
    chapter = f"{{doc}}`{slug[:2]} </notebooks/{slug}>`" if slug in found else slug[:2]
    if item is None:
        ours, null, word, paper = "–", "–", "not yet", claim.get("paper", "–")
    else:
        unit = f" {item['unit']}" if item["unit"] else ""
        ours = verdicts.text(item["value"], item["fmt"], item["low"], item["high"]) + unit
        null, word = verdicts.text(item["null"], item["fmt"]), item["verdict"]
        paper = item["paper"] or claim.get("paper", "–")
    badge = f"{{{BADGES[word]}}}`{verdicts.SYMBOLS[word]} {word}`"
    return [claim["id"], claim["text"], chapter, str(paper), ours, null, badge]


def measurements(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row a record and a verdict, with the columns `COLUMNS`."""
    rows = []
    for slug, chapter in found.items():
        shared = {"profile": chapter["profile"], "chapter": slug}
        for item in chapter["records"]:
            rows.append({**shared, "kind": "record", **item})
        for item in chapter["verdicts"]:
            shown = verdicts.text(item["value"], item["fmt"], item["low"], item["high"])
            rows.append({**shared, "kind": "verdict", **item, "name": item["claim"], "text": shown})
    return [{name: _column(name, row.get(name)) for name in COLUMNS} for row in rows]


def _column(name: str, value: Any) -> Any:
    """Fit a value to its column: numbers in value, low and high, text everywhere else."""
    if name in NUMBERS:
        return float(value) if isinstance(value, (int, float)) else None
    return None if value is None else str(value)


def _texts(root: Path, found: dict[str, Any]) -> dict[Path, str]:
    """The two text files; equal findings give equal bytes."""
    whole = json.dumps({"chapters": found}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return {JSON: whole, TABLE: table(load_claims(root), found)}


def write(root: Path, paths: Iterable[Path], target: Path | None = None) -> None:
    """Collect the notebooks `paths` and write the three files under `target` (default `root`)."""
    import pyarrow
    import pyarrow.parquet

    found, target = collect(paths), target or root
    for name, text in _texts(root, found).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
    schema = pyarrow.schema([(name, pyarrow.float64() if name in NUMBERS else pyarrow.string())
                             for name in COLUMNS])
    data = pyarrow.Table.from_pylist(measurements(found), schema=schema)
    pyarrow.parquet.write_table(data, target / PARQUET, compression="zstd")


def stale(root: Path, paths: Iterable[Path]) -> list[str]:
    """Name the generated files that do not match the notebooks; empty when all do."""
    return [f"{name.as_posix()} does not match the notebooks: `python -m helpers run` writes it"
            for name, text in _texts(root, collect(paths)).items()
            if not (root / name).is_file() or (root / name).read_text("utf-8") != text]
