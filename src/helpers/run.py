"""The command line, ``python -m helpers``: parse, dispatch, and turn failures into one line.

Each subcommand imports what it needs when it is called, so that `build` and `check` work where only
the documentation packages are installed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers import __version__
from helpers.manual import DESCRIPTION, TEXTS


def parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    top = argparse.ArgumentParser(
        prog="python -m helpers", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str) -> argparse.ArgumentParser:
        short, text, epilog = TEXTS[name]
        return commands.add_parser(
            name, help=short, description=f"{short}\n\n{text}", epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter)

    add = command("run").add_argument
    add("chapters", nargs="*", metavar="CHAPTER", help="number (02) or name (02_two_regimes); "
        "default: all")
    add("--profile", default="laptop", help="quick, laptop or paper (default: laptop)")
    add("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter; may be repeated")
    add("--out", type=Path, metavar="DIR", help="folder for the notebooks (default: notebooks for "
        "an unmodified laptop run, else _scratch/run)")
    add("--fresh", action="store_true", help="start from an empty store and ignore published "
        "measurements")
    add("--force", action="store_true", help="run chapters that are up to date, too")
    add("--build", action="store_true", help="build the book with the result")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"),
        help="where to compute (default: auto, CUDA if there is one)")
    add("--workers", type=_positive, metavar="N", help="worker processes of a chapter (default: "
        "the number of cores, at most 2 on small machines)")
    add("--jobs", type=_positive, default=1, metavar="N", help="chapters at a time (default: 1)")
    add("--dry-run", action="store_true", help="print expected time, memory and disk; run nothing")

    add = command("build").add_argument
    add("--source", type=Path, metavar="DIR", help="folder of the book (default: this one)")
    add("--out", type=Path, metavar="DIR", help="folder that gets _build (default: the source)")

    add = command("check").add_argument
    add("--html", type=Path, metavar="DIR", help="built pages (default: _build/html)")
    add("--no-browser", action="store_true", help="skip the checks that need Chromium")
    add("--no-pages", action="store_true", help="skip the built pages altogether")

    add = command("audit").add_argument
    add("--cells", type=_positive, default=2, metavar="K", help="how many cells (default: 2)")
    add("--seed", type=int, default=0, metavar="S", help="seed of the draw (default: 0)")
    add("--max-seconds", type=float, default=600.0, metavar="T",
        help="expected seconds that the drawn cells may take together (default: 600)")
    add("--per-stage", action="store_true", help="draw K cells of every stage, T seconds each")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where to compute (default: cpu)")
    add("--record", action="store_true", help="note passed cells in results/audits.json")

    for name in ("bench", "data"):
        add = command(name).add_argument
        add("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    add = command("compare").add_argument
    for side in "ab":
        add(f"--{side}", type=Path, metavar="FILE", help=f"samples of model {side.upper()} "
            "(safetensors, array `images`)")
        add(f"--pipeline-{side}", type=Path, metavar="DIR", help=f"diffusers pipeline folder of "
            f"model {side.upper()}")
    add("--noise-count", type=_positive, default=1024, metavar="N",
        help="noises to draw through the pipelines (default: 1024)")
    add("--steps", type=_positive, default=18, metavar="N", help="solver steps of the pipelines "
        "(default: 18)")
    add("--descriptor", default="pixels", choices=("pixels", "squeezenet"),
        help="descriptor of the RP score (default: pixels)")
    add("--held-out", metavar="NAME", help="data set or file whose test images set the RP "
        "threshold (default: fashion16 for images of its shape)")
    add("--seed", type=int, default=0, metavar="S", help="seed of the null (default: 0)")
    add("--out", type=Path, default=Path("comparison"), metavar="DIR",
        help="folder for the JSON and the plate (default: comparison)")

    add = command("noise").add_argument
    add("--count", type=_positive, default=1024, metavar="N", help="how many (default: 1024)")
    add("--shape", type=_positive, nargs=3, required=True, metavar=("C", "H", "W"),
        help="channels, height, width")
    add("--seed", type=int, default=0, metavar="S", help="seed (default: 0, the published bank)")
    add("--out", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    return top


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got {text!r}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status (see ``--help``)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    from helpers.execute import ChapterError
    from helpers.project import UsageError

    if argv[:1] in (["bench"], ["data"]):  # these parse their own arguments, help included
        command, args = argv[0], argparse.Namespace(arguments=argv[1:])
    else:
        args = parser().parse_args(argv)
        command = args.command
    try:
        before = signal.signal(signal.SIGTERM, _interrupted)
    except ValueError:  # not the main thread
        before = None
    try:
        return COMMANDS[command](args) or 0
    except UsageError as error:
        return _say(error, 2)
    except ChapterError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted; kernels and workers were stopped, nothing published was changed",
                    130)
    except ModuleNotFoundError as error:
        return _say(f"{command} needs the package {error.name}, which is not installed: "
                    "pip install -r requirements.lock", 2)
    except Exception as error:
        if type(error).__name__ in ("StoreError", "DataError", "RuntimeError"):
            return _say(error, 2)
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _interrupted(*_) -> None:
    raise KeyboardInterrupt


def _say(error: object, status: int) -> int:
    print(f"helpers: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _run(args: argparse.Namespace) -> int:
    from helpers import planning, project, publish

    root = project.need_root()
    options = planning.Options(
        tuple(args.chapters), args.profile, tuple(map(tuple, args.parameter)), args.out,
        args.fresh, args.force, args.build, args.device, args.workers, args.jobs)
    if args.dry_run:
        from helpers import costs

        print(costs.report(root, planning.plan(root, options)))
        return 0
    publish.run(root, options)
    return 0


def _build(args: argparse.Namespace) -> int:
    from helpers import book, project

    source = (args.source or project.need_root()).resolve()
    print(book.build(source, (args.out or source).resolve()))
    return 0


def _check(args: argparse.Namespace) -> int:
    from helpers import freshness, project

    root = project.need_root()
    problems = freshness.problems(root)
    if not args.no_pages:
        problems += freshness.page_problems(args.html or root / "_build" / "html",
                                            browser=not args.no_browser)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "all is well")
    return 1 if problems else 0


def _audit(args: argparse.Namespace) -> int:
    from helpers import audit, project

    return audit.main(project.need_root(), args.cells, args.seed, args.max_seconds,
                      per_stage=args.per_stage, device=args.device, record=args.record)


def _bench(args: argparse.Namespace) -> int:
    from helpers import bench

    return bench.main(args.arguments)


def _data(args: argparse.Namespace) -> int:
    from helpers import archives

    return archives.main(args.arguments)


def _compare(args: argparse.Namespace) -> int:
    from helpers import compare

    return compare.main(args)


def _noise(args: argparse.Namespace) -> int:
    from helpers import compare

    print(compare.write_noise(args.out, args.count, tuple(args.shape), args.seed))
    return 0


COMMANDS = {"run": _run, "build": _build, "check": _check, "audit": _audit, "bench": _bench,
            "data": _data, "compare": _compare, "noise": _noise}
