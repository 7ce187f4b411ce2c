"""Expected numbers of the quick notebooks: read, compare, and derive tolerances from seeds.

``expected.yml`` holds, for each chapter and record, ``{value: 0.83, tolerance: 0.05}`` or
``{text: yes}``. To make it anew, run the quick profile with a few other seeds and call this file:

    for seed in 1 2 3 4; do
        python -m helpers run --profile quick -p seed $seed --fresh --out _scratch/seeds/$seed
    done
    python tests/expected.py _scratch/seeds/*

The value is the baseline's (``tests/notebooks``); the tolerance is `SPREAD` times the standard
deviation over the seeds and the baseline, and at least `FLOOR` (of the value where that exceeds 1):
with a hundred noises a few of them may change sides on another processor.
Look at the result before committing it.
"""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path

import yaml

SPREAD = 3.0
FLOOR = 0.05
HERE = Path(__file__).resolve().parent
REMARK = "# Made by tests/expected.py, which says how; reviewed by hand.\n"


def read(path: Path) -> dict:
    """Read expected.yml; an absent file expects nothing of anybody."""
    return (yaml.safe_load(path.read_text("utf-8")) if path.is_file() else None) or {}


def compare(slug: str, fresh: dict[str, dict], wanted: dict[str, dict] | None) -> list[str]:
    """Compare one chapter's records with what is expected; returns complaints.

    `fresh` maps names to records with ``value`` and ``text``.
    """
    if wanted is None:
        return [f"{slug}: expected.yml has no numbers for it: run tests/expected.py"]
    found = [f"{slug}: {name} was not recorded" for name in wanted if name not in fresh]
    for name, record in fresh.items():
        if name not in wanted:
            found.append(f"{slug}: {name} is not in expected.yml: run tests/expected.py")
            continue
        rule, value = wanted[name], record["value"]
        if "text" in rule:
            if record["text"] != str(rule["text"]):
                found.append(f"{slug}: {name} is {record['text']!r}, expected {rule['text']!r}")
        elif not isinstance(value, (int, float)) or not math.isfinite(value):
            found.append(f"{slug}: {name} is {value!r}, expected the number {rule['value']}")
        elif abs(value - rule["value"]) > rule["tolerance"]:
            found.append(f"{slug}: {name} is {value:.6g}, expected {rule['value']:.6g} within "
                         f"{rule['tolerance']:.2g}")
    return found


def derive(baseline: dict[str, dict], others: list[dict[str, dict]]) -> dict[str, dict]:
    """Make one chapter's expected numbers from its baseline records and those of other seeds."""
    rules = {}
    for name, record in baseline.items():
        values = [run[name]["value"] for run in others if name in run] + [record["value"]]
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool)
                   for value in values):
            rules[name] = {"text": record["text"]}
            continue
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        tolerance = max(SPREAD * spread, FLOOR * max(abs(record["value"]), 1.0))
        if all(isinstance(value, int) for value in values) and not spread:
            tolerance = 0
        rules[name] = {"value": record["value"], "tolerance": float(f"{tolerance:.2g}")}
    return rules


def records(paths: list[Path]) -> dict[str, dict[str, dict]]:
    """Read the records of executed notebooks, by chapter and name."""
    from helpers import claims

    return {slug: {record["name"]: record for record in chapter["records"]}
            for slug, chapter in claims.collect(paths).items()}


def main(folders: list[str]) -> None:
    """Write expected.yml from the baseline and the runs in `folders`."""
    if len(folders) < 1:
        sys.exit("give at least one folder of runs with another seed")
    runs = [records(sorted(Path(folder).glob("*.ipynb"))) for folder in folders]
    baseline = records(sorted((HERE / "notebooks").glob("*.ipynb")))
    old = read(HERE / "expected.yml")
    kept = old.get("numbers", {})  # of chapters that were not run with other seeds this time
    numbers = {slug: derive(found, [run[slug] for run in runs if slug in run])
               if slug not in kept or any(slug in run for run in runs) else kept[slug]
               for slug, found in baseline.items()}
    text = yaml.safe_dump({"untrained": old.get("untrained", []), "numbers": numbers},
                          sort_keys=True, default_flow_style=None, width=100)
    (HERE / "expected.yml").write_text(REMARK + text, encoding="utf-8")
    print(f"{sum(map(len, numbers.values()))} numbers of {len(numbers)} chapters, "
          f"{len(runs)} other seeds")


if __name__ == "__main__":
    main(sys.argv[1:])
