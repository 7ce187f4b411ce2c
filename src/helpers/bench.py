"""``python -m helpers bench``: run the benchmarks, keep them as JSON, write the book's table.

Results of one device and one benchmark replace the earlier ones; the others stay, each with the
machine and the versions that it was measured with.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from helpers import project, verdicts
from helpers.project import UsageError, replacing

NAMES = {
    "closed": "Closed-form denoiser against two broadcast passes over the data",
    "denoisers": "Training small denoisers together against a `torch` loop over them",
    "novelty": "Novelty score (nearest reference) against the array of all products",
    "sampling": "Sampling against the loop of a `diffusers` pipeline on the same weights",
    "shadow": "Training many small classifiers at once against loops over them",
    "solvers": "Network calls that each solver needs",
    "training": "Training step against the plain `diffusers` training loop",
}
RESULT = Path("results") / "bench.json"
TABLE = Path("book") / "_generated" / "bench_table.md"
ROUNDS = 7
EMPTY = "Not measured yet: `python -m helpers bench` (or `make bench`) fills this page.\n"


def main(args: argparse.Namespace) -> None:
    """Run ``python -m helpers bench`` with its parsed arguments."""
    if args.rounds < 5:
        raise UsageError(f"--rounds {args.rounds}: a median needs at least 5")
    root = project.find_root()
    if args.out is None and (root is None or args.quick):
        raise UsageError("give --out FILE: toy sizes, and runs from outside the book, are "
                         "not kept as its results")
    out = args.out or root / RESULT
    place = out.with_suffix(".md") if args.out else root / TABLE
    data = _read(out)
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no CUDA device here")
    store = os.environ.get("SAME_NOISE_STORE") or str(project.default_store(root))
    for name in args.only or NAMES:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        data.setdefault(args.device, {})[name] = run(
            name, args.device, args.rounds, store, args.quick)
        _write(out, json.dumps(data, indent=1, sort_keys=True) + "\n")
        _write(place, table(data))
    print(table(data))


def run(name: str, device: str, rounds: int, store: str, quick: bool) -> dict:
    """Run one benchmark.

    Parameters
    ----------
    name : str
        A key of `NAMES`.
    device : {"cpu", "cuda"}
    rounds : int
    store : str
        Folder of the store in which trained weights are looked for.
    quick : bool
        Toy sizes; nothing is looked for in the store.

    Returns
    -------
    dict
        ``environment``, ``minutes``, ``quick`` and ``rows`` (``solvers``: see
        `helpers.bench_sampling.measure_solvers`).
    """
    from helpers import (
        bench_closed,
        bench_denoisers,
        bench_sampling,
        bench_shadow,
        bench_training,
    )
    from helpers.bench_measure import environment, one_thread, rounded

    began = time.perf_counter()
    with one_thread():
        found = {
            "closed": bench_closed.measure, "novelty": bench_closed.measure_novelty,
            "denoisers": bench_denoisers.measure,
            "sampling": bench_sampling.measure, "solvers": bench_sampling.measure_solvers,
            "shadow": bench_shadow.measure, "training": bench_training.measure,
        }[name](device, rounds, store, quick)
    minutes = (time.perf_counter() - began) / 60
    return rounded(found | {"minutes": float(f"{minutes:.2g}"), "quick": quick,
                            "environment": environment(device)})


def table(data: dict) -> str:
    """Return the results as Markdown: a table a benchmark, and the machines at the end."""
    lines, machines = [], []
    for device, benches in data.items():
        for name in NAMES:
            if name not in benches:
                continue
            one = benches[name]
            if one["environment"] not in machines:
                machines.append(one["environment"])
            note = f" [{machines.index(one['environment']) + 1}]"
            lines += [f"**{NAMES[name]}** ({device}){note}", ""]
            lines += (_solvers if name == "solvers" else _ratios)(one)
            if one["quick"]:
                lines += ["", "Toy sizes: these numbers mean nothing."]
            lines.append("")
    if not lines:
        return EMPTY
    for i, machine in enumerate(machines):
        lines.append(f"[{i + 1}] " + ", ".join(f"{k} {v}" for k, v in machine.items()) + ".")
        lines.append("")
    return "\n".join(lines)


def _ratios(one: dict) -> list[str]:
    rows = []
    for row in one["rows"]:
        value, low, high = row["ratio"]
        goal = "" if row["goal"] is None else f"{row['goal']:g} {_verdict(value >= row['goal'])}"
        error = ""
        if row["error"] is not None:
            error = f"{row['error']:.1g} {_verdict(row['error'] <= row['error_goal'])}"
        if "agreement" in row:
            error += f", {row['agreement']:.1%} of noises agree"
        used = "" if row["memory"] is None else " / ".join(
            f"{m['peak_mb']:,} MB (+{m['extra_mb']:,})" for m in row["memory"].values())
        busy = "; the machine was busy" if row["busy"] else ""
        rows.append([row["case"], *(_time(row["seconds"][side][0]) for side in ("book", "plain")),
                     f"{value:.3g} ({low:.3g} to {high:.3g}){busy}", goal, error, used])
    header = ("case", "this book", "plain way", "ratio (95 %)", "goal", "error", "memory")
    weights = f" Weights: {one['weights']}." if "weights" in one else ""
    if "models" in one:
        used = "; ".join(f"{m['models']} models: {m['peak_mb']:,} MB (+{m['extra_mb']:,})"
                         for m in one["models"])
        return [verdicts.table(header, rows), "", "Error: of the outputs, against one model after "
                f"another. Memory: peak of the process, book ({used}; in brackets what the call "
                "added)."]
    return [verdicts.table(header, rows), "", "Memory: peak of the process, book / plain (in "
            f"brackets what the call added).{weights}"]


def _solvers(one: dict) -> list[str]:
    rows = []
    for row in one["rows"]:
        shares = ["–" if not found else "{:.3f} ({:.3f} to {:.3f})".format(*found)
                  for found in (row["agreement"], row["closed"])]
        rows.append([row["solver"], str(row["steps"]), str(row["nfe"]), *shares,
                     f"{row['median_distance']:.2g}/255", f"{row['seconds']:.3g}"])
    header = ("solver", "steps", "calls", "network agrees (95 %)", "closed form agrees (95 %)",
              "median distance, network", "seconds, network")
    texts = [f"{solver} {'never here' if n is None else f'{n} calls'}"
             for solver, n in one["reached"].items()]
    return [f"Agreement with {one['reference']}, on {one['noises']} noises. Weights: "
            f"{one['weights']}; closed form: the empirical denoiser of {one['images']:,} of its "
            "training images.", "", verdicts.table(header, rows), "",
            f"{one['wanted']:.0%} agreement of the network: {', '.join(texts)}; cheapest: "
            f"{one['cheapest'] or 'none'}."]


def _verdict(met: bool) -> str:
    return "(met)" if met else "(missed)"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _read(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); move it away first") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
