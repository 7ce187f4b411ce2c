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

from helpers import project

__all__ = ["NAMES", "main", "run", "table"]

NAMES = {
    "closed": "Closed-form denoiser against two broadcast passes over the data",
    "novelty": "Novelty score (nearest reference) against the array of all products",
    "sampling": "Sampling against the loop of a `diffusers` pipeline on the same weights",
    "solvers": "Network calls that each solver needs",
    "training": "Training step against the plain `diffusers` training loop",
}
RESULT = Path("results") / "bench.json"
TABLE = Path("book") / "_generated" / "bench_table.md"
ROUNDS = 7
EMPTY = "Not measured yet: `python -m helpers bench` (or `make bench`) fills this page.\n"

DESCRIPTION = """\
Measure how fast the parts of the book are against the plain way of computing the same thing.

Both sides of a ratio are called in turn in one process, on one thread, after a warm-up; a ratio is
the median over rounds with a 95 % bootstrap interval. Peak memory is taken in a process of its own
for each side. Leave the machine alone meanwhile: a measurement on a busy one is marked as such.
"""
EPILOG = "benchmarks:\n" + "\n".join(f"  {k:10}{v}" for k, v in NAMES.items()) + """

examples:
  python -m helpers bench
  python -m helpers bench --only closed --only novelty
  python -m helpers bench --device cuda --out results/bench.json
  python -m helpers bench --quick --out toy.json

exit status: 0 measured (a goal that was missed is marked in the table); 2 the request has to be
put right first."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    top = argparse.ArgumentParser("python -m helpers bench", description=DESCRIPTION, epilog=EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                     help="where to compute (default: cpu)")
    top.add_argument("--only", action="append", choices=tuple(NAMES), metavar="NAME",
                     help="one benchmark (repeat for more; default: all)")
    top.add_argument("--rounds", type=int, default=ROUNDS, metavar="N",
                     help=f"rounds behind a median, at least 5 (default: {ROUNDS})")
    top.add_argument("--quick", action="store_true",
                     help="toy sizes, to see that everything works; the numbers mean nothing")
    top.add_argument("--out", type=Path, default=None, metavar="FILE",
                     help=f"JSON to write or extend (default: {RESULT} in the book, whose table is "
                          "then written too; elsewhere the table goes beside the JSON)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if args.rounds < 5:
        raise project.UsageError(f"--rounds {args.rounds}: a median needs at least 5")
    root = project.find_root()
    if args.out is None and (root is None or args.quick):
        raise project.UsageError("give --out FILE: toy sizes, and runs from outside the book, are "
                                 "not kept as its results")
    out = root / RESULT if args.out is None else args.out
    data = _read(out)
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise project.UsageError("--device cuda: torch finds no CUDA device here")
    store = os.environ.get("SAME_NOISE_STORE") or str(project.default_store(root))
    for name in args.only or NAMES:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        data.setdefault(args.device, {})[name] = run(
            name, args.device, args.rounds, store, quick=args.quick)
        _write(out, json.dumps(data, indent=1, sort_keys=True) + "\n")
        place = root / TABLE if args.out is None else out.with_suffix(".md")
        _write(place, table(data))
    print(table(data))
    return 0


def run(name: str, device: str, rounds: int = ROUNDS, store: str | None = None, *,
        quick: bool = False) -> dict:
    """Run one benchmark.

    Parameters
    ----------
    name : str
        A key of `NAMES`.
    device : {"cpu", "cuda"}
    rounds : int
    store : str, optional
        Folder of the store in which trained weights are looked for.
    quick : bool
        Toy sizes; nothing is looked for in the store.

    Returns
    -------
    dict
        ``environment``, ``minutes``, ``quick`` and ``rows`` (``solvers``: see
        `helpers.bench_sampling.measure_solvers`).
    """
    from helpers import bench_closed, bench_sampling, bench_training
    from helpers.bench_measure import environment, one_thread, rounded

    small = bench_training.example() if quick else None
    law = ({"law": "clusters", "shape": [1, 8, 8], "images": 96, "queries": 4,
            "pieces": [128, 8]},)
    began = time.perf_counter()
    with one_thread():
        if name == "closed":
            sizes = {"laws": law, "sigmas": (0.5,), "checked": (0.002, 0.5, 80.0)} if quick else {}
            found = {"rows": bench_closed.measure(device, rounds, **sizes)}
        elif name == "novelty":
            sizes = {"pairs": ({"queries": 8, "references": 64},)} if quick else {}
            found = {"rows": bench_closed.measure_novelty(device, rounds, **sizes)}
        elif name == "sampling":
            sizes = {"count": 4, "steps": 3} if quick else {}
            rows, weights = bench_sampling.measure(device, rounds, store, small, **sizes)
            found = {"rows": rows, "weights": weights}
        elif name == "solvers":
            grids = {"heun": (3, 6), "euler": (4,), "dpmpp2m": (4,)}
            sizes = {"noises": 6, "grids": grids, "reference": ("heun", 12)} if quick else {}
            found = bench_sampling.measure_solvers(device, store, small, **sizes)
        else:
            case = {"size": 8, "network": "unet-20k", "batch": 8, "steps": 2, "images": 64,
                    "dataset": "digits8"}
            sizes = {"cases": (case,)} if quick else {}
            found = {"rows": bench_training.measure(device, rounds, **sizes)}
    minutes = (time.perf_counter() - began) / 60
    return found | {"environment": environment(device), "minutes": rounded(minutes, 2),
                    "quick": quick}


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
    lines = ["| case | this book | plain way | ratio (95 %) | goal | error | memory |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
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
        lines.append(f"| {row['case']} | {_time(row['seconds']['book'][0])} | "
                     f"{_time(row['seconds']['plain'][0])} | {value:.3g} ({low:.3g} to {high:.3g})"
                     f"{busy} | {goal} | {error} | {used} |")
    lines += ["", "Memory: peak of the process, book / plain (in brackets what the call added)."]
    if "weights" in one:
        lines[-1] += f" Weights: {one['weights']}."
    return lines


def _solvers(one: dict) -> list[str]:
    lines = [f"Agreement with {one['reference']}, on {one['noises']} noises. Weights: "
             f"{one['weights']}.", "",
             "| solver | steps | network calls | agreement (95 %) | median distance | seconds |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in one["rows"]:
        value, low, high = row["agreement"]
        lines.append(f"| {row['solver']} | {row['steps']} | {row['nfe']} | {value:.3f} ({low:.3f} "
                     f"to {high:.3f}) | {row['median_distance']:.2g}/255 | {row['seconds']:.3g} |")
    texts = [f"{solver} {'never here' if n is None else f'{n} calls'}"
             for solver, n in one["reached"].items()]
    return lines + ["", f"{one['wanted']:.0%} agreement: {', '.join(texts)}; cheapest: "
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
        raise project.UsageError(f"{path} is not JSON ({error}); move it away first") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text, "utf-8")
        os.replace(part, path)
    except OSError as error:
        raise project.UsageError(f"cannot write {path}: {error.strerror}") from error
