"""The verdict on a claim: one pure rule, its words, and the tables that show it.

Nothing here needs more than the standard library, so the book's scoreboard can be made where no
numerical package is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

RECORD_MIME = "application/papermill.record/"
KEPT = "same_noise"  # output metadata: {"record": ...}, {"verdicts": [...]} or {"run": ...}

SYMBOLS = {
    "reproduced": "●",
    "partly": "◐",
    "not reproduced": "○",
    "refuted": "✕",
    "not yet": "…",
}


def word(point_holds: bool, interval_holds: bool | None = None, interval_wrong: bool = False,
         some_settings: bool = False) -> str:
    """Turn the outcome of a pre-registered rule into its verdict.

    Parameters
    ----------
    point_holds : bool
        Whether the rule holds for the point estimates.
    interval_holds : bool or None
        Whether it holds with the whole 95 % interval on the right side; None where there is no
        interval, which can never be more than "partly".
    interval_wrong : bool
        Whether the whole interval lies on the wrong side.
    some_settings : bool
        Whether the rule, failing overall, holds for some of the settings it was tried in.

    Returns
    -------
    str
        "reproduced", "partly", "not reproduced" or "refuted".

    Raises
    ------
    ValueError
        If the outcomes contradict each other.
    """
    if interval_wrong and (interval_holds or point_holds):
        raise ValueError("interval_wrong=True contradicts point_holds or interval_holds: an "
                         "interval on the wrong side excludes both; check the rule's evaluation")
    if interval_holds and not point_holds:
        raise ValueError("interval_holds=True needs point_holds=True: an interval on the right "
                         "side contains its estimate; check the rule's evaluation")
    if interval_holds:
        return "reproduced"
    if point_holds or some_settings:
        return "partly"
    return "refuted" if interval_wrong else "not reproduced"


def at_least(interval: Any, limit: float) -> dict[str, bool]:
    """Outcomes of the rule "at least `limit`" for `word`; `interval` has value, low and high."""
    return {"point_holds": bool(interval.value >= limit), "interval_holds":
            bool(interval.low >= limit), "interval_wrong": bool(interval.high < limit)}


def at_most(interval: Any, limit: float) -> dict[str, bool]:
    """Outcomes of the rule "at most `limit`" for `word`; `interval` has value, low and high."""
    return {"point_holds": bool(interval.value <= limit), "interval_holds":
            bool(interval.high <= limit), "interval_wrong": bool(interval.low > limit)}


def every(*outcomes: Mapping[str, bool]) -> dict[str, bool]:
    """Outcomes of a rule that asks for several conditions at once.

    The interval is wrong as soon as one condition's interval is wrong; `some_settings` is not
    set, because a condition that holds alone is not the rule in another setting.
    """
    point = all(outcome["point_holds"] for outcome in outcomes)
    return {"point_holds": point,
            "interval_holds": all(bool(outcome.get("interval_holds")) for outcome in outcomes),
            "interval_wrong": any(outcome.get("interval_wrong", False) for outcome in outcomes)}


@dataclass(frozen=True)
class Verdict:
    """One row of a verdict table: all numbers are already plain floats or texts."""

    claim: str
    rule: str
    paper: str
    value: float | str
    low: float | None
    high: float | None
    null: float | str | None
    baseline: float | str | None
    verdict: str
    unit: str = ""
    fmt: str = ".2f"

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON data."""
        return asdict(self)


def plain(value: Any) -> Any:
    """Turn a NumPy scalar into Python's own; None, text, bool, int and float pass.

    Raises
    ------
    TypeError
        For anything else, naming its type.
    """
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"expected one number or text, got {type(value).__name__}: {value!r}")


def finite(value: Any) -> Any:
    """Return `plain(value)` with NaN and infinities as None, which JSON can hold."""
    value = plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text(value: Any, fmt: str = ".2f", low: Any = None, high: Any = None) -> str:
    """Write a number with its interval; an en dash for None."""
    if value is None:
        return "–"
    if isinstance(value, (str, bool)):
        return str(value)
    shown = str(value) if isinstance(value, int) else format(value, fmt)
    if low is None and high is None:
        return shown
    ends = ["?" if end is None else format(end, fmt) for end in (low, high)]
    return f"{shown} [{ends[0]}, {ends[1]}]"


def cell(content: str) -> str:
    """Make text safe inside one cell of a Markdown table."""
    return " ".join(content.split()).replace("|", r"\|")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table (pipes escaped, every cell on one line)."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(cell(part) for part in row) + " |" for row in rows]
    return "\n".join(lines)


def directive(body: str, name: str, caption: str) -> str:
    """Wrap a Markdown table in MyST's table directive, which numbers and labels it.

    The colon fence leaves a readable table in viewers that know nothing of MyST.
    """
    return f":::{{table}} {caption}\n:name: {name}\n\n{body}\n\n:::"


def verdict_rows(verdicts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of a chapter's verdict table: claim, rule, paper, ours, null, baseline, verdict."""
    rows = []
    for item in verdicts:
        fmt, unit = item["fmt"], f" {item['unit']}" if item["unit"] else ""
        rows.append([
            item["claim"], item["rule"], item["paper"] or "–",
            text(item["value"], fmt, item["low"], item["high"]) + unit,
            text(item["null"], fmt), text(item["baseline"], fmt),
            f"{SYMBOLS[item['verdict']]} {item['verdict']}",
        ])
    return rows


def verdict_header(fixed: bool = True) -> tuple[str, ...]:
    """Header of a chapter's verdict table; `fixed`: the rules were written before the run."""
    return ("Claim", "Rule, fixed before the run" if fixed else "Rule", "Paper",
            "Ours [95 % interval]", "Null", "Trivial baseline", "Verdict")


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table for a terminal, columns padded with blanks."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    return "\n".join("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True))
                     .rstrip() for line in (header, *rows))
