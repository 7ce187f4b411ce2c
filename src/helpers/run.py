"""The command line, ``python -m helpers``: parse, dispatch, and turn failures into one line.

The handlers' docstrings are the manual: ``COMMAND --help`` prints them. Each handler imports what
it needs when it is called, so that `build` and `check` work where only the documentation packages
are installed.
"""

from __future__ import annotations

import argparse
import inspect
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers import __version__, bench, project
from helpers.execute import ChapterError
from helpers.project import UsageError


def parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    top = argparse.ArgumentParser(
        prog="python -m helpers", description=inspect.getdoc(main).split("\n\nParameters")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(handler):
        text = inspect.getdoc(handler)
        head, end = re.match(r"(.*?)((?:\n\n(?:\w+:\n|exit status: ).*)?)$", text, re.S).groups()
        name = handler.__name__.strip("_").replace("_", "-")
        added = commands.add_parser(
            name, help=head.splitlines()[0], description=head, epilog=end.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter)
        added.set_defaults(handler=handler)
        return added.add_argument

    add = command(_run)
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

    add = command(_build)
    add("--source", type=Path, metavar="DIR", help="folder of the book (default: this one)")
    add("--out", type=Path, metavar="DIR", help="folder that gets _build (default: the source)")

    add = command(_check)
    add("--html", type=Path, metavar="DIR", help="built pages (default: _build/html)")
    add("--no-browser", action="store_true", help="skip the checks that need Chromium")
    add("--no-pages", action="store_true", help="skip the built pages altogether")

    add = command(_audit)
    add("--cells", type=_positive, default=2, metavar="K", help="how many cells (default: 2)")
    add("--seed", type=int, default=0, metavar="S", help="seed of the draw (default: 0)")
    add("--max-seconds", type=float, default=600.0, metavar="T",
        help="expected seconds that the drawn cells may take together (default: 600)")
    add("--per-stage", action="store_true",
        help="draw K cells of every stage and kind, T seconds each")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where to compute (default: cpu)")
    add("--record", action="store_true", help="note passed cells in results/audits.json")

    add = command(_bench)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")
    add("--only", action="append", choices=tuple(bench.NAMES), metavar="NAME",
        help="one benchmark (repeat for more; default: all)")
    add("--rounds", type=int, default=bench.ROUNDS, metavar="N",
        help=f"rounds behind a median, at least 5 (default: {bench.ROUNDS})")
    add("--quick", action="store_true",
        help="toy sizes, to see that everything works; the numbers mean nothing")
    add("--out", type=Path, metavar="FILE", help=f"JSON to write or extend (default: {bench.RESULT}"
        " in the book, whose table is then written too; elsewhere the table goes beside the JSON)")

    add = command(_data)
    add("name", choices=("fashion16", "cifar10", "mnist", "squeezenet", "acs_ma", "adult",
                         "recall"), help="what to make or measure")
    add("--from", dest="folder", type=Path, metavar="FOLDER",
        help="folder that holds the archive; without it the archive is fetched")
    add("--check", action="store_true",
        help="only verify the file that is there (fashion16: count duplicates too)")

    add = command(_compare)
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

    add = command(_attack)
    add("--probes", type=Path, metavar="FILE.csv", help="write the probe records, readable")
    add("--encoded", type=Path, metavar="FILE.npz", help="write them as the shadows see them")
    add("--outputs", type=Path, metavar="FILE.npz", help="your model's outputs on them: test it")
    add("--table", default="acs_ma", help="acs_ma or adult (default: acs_ma)")
    add("--property", default="sex", help="sex or race (default: sex)")
    add("--ratios", type=float, nargs="+", default=[0.5, 0.3], metavar="R",
        help="the two ratios to tell apart (default: 0.5 0.3)")
    add("--json", type=Path, metavar="FILE", help="write all numbers, too")
    add("--make-shadows", action="store_true",
        help="train the shadows of this table and property and publish their outputs in results/")
    add("--workers", type=_positive, metavar="N", help="worker processes for --make-shadows "
        "(default: one a core)")

    add = command(_attack_diffusion)
    add("--write-noise", type=Path, metavar="FILE", help="write the noises (.npz, .safetensors)")
    add("--samples", type=Path, metavar="FILE", help="your model's samples of them: test it "
        "(.safetensors, .npz, .npy)")
    add("--pipeline", type=Path, metavar="FOLDER", help="a diffusers pipeline: sample and test it")
    add("--steps", type=_positive, default=50, metavar="N",
        help="solver steps of the pipeline (default: 50)")
    add("--ratios", type=float, nargs="+", metavar="R", help="the two ratios to tell apart "
        "(default: 0.5 0.3, or those of the first two --shadows)")
    add("--shadows", type=Path, nargs="+", metavar="FOLDER", help="shadows of your own, one folder "
        "a ratio, as train-shadows writes them, in place of the published ones")
    add("--noise", default="published_bank", metavar="NAME", help="noises behind the samples: "
        "published_bank, the only one there is")
    add("--json", type=Path, metavar="FILE", help="write all numbers, too")
    add("--make-shadows", action="store_true",
        help="train the published shadows and put their samples in results/")
    add("--workers", type=_positive, metavar="N", help="worker processes for --make-shadows "
        "(default: one a core)")

    add = command(_train_shadows)
    add("--data", required=True, metavar="DATA", help="FILE.npz, FILE.csv, FILE.parquet, "
        "fashion16, acs_ma or adult")
    add("--property", metavar="P", help="array of a .npz (default: property), or column=value of a "
        "table (fashion16: footwear)")
    add("--label", metavar="L", help="of a table: the column that is its task, left out")
    add("--ratios", type=float, nargs="+", required=True, metavar="R",
        help="shares of records with the property, a folder each")
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder for the shadows")
    add("--n", type=_positive, metavar="N", help="training records of each shadow (default: the "
        "most that fit, up to 2048)")
    add("--count", type=_positive, default=16, metavar="K", help="shadows of each ratio "
        "(default: 16)")
    add("--side", type=_positive, metavar="S", help="average pictures down to this side (default: "
        "8 for fashion16, else as they are)")
    add("--steps", type=_positive, default=2000, metavar="N", help="training steps "
        "(default: 2000)")
    add("--noises", type=_positive, default=200, metavar="M", help="noises of the bank to sample "
        "(default: 200)")
    add("--seed", type=int, default=0, metavar="S", help="seed of halves, draws and training "
        "(default: 0)")
    add("--workers", type=_positive, metavar="N", help="worker processes (default: one a core)")

    add = command(_noise)
    add("--count", type=_positive, default=1024, metavar="N", help="how many (default: 1024)")
    add("--shape", type=_positive, nargs=3, required=True, metavar=("C", "H", "W"),
        help="channels, height, width")
    add("--seed", type=int, default=0, metavar="S", help="seed (default: 0, the published bank)")
    add("--out", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    return top


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number of at least 1, got {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chapters of the book, build it, check it, and compare models of your own.

    Call it from the folder of the book or any folder below it. `COMMAND --help` explains a command.

    exit status:
      0    done
      1    a chapter's own code failed, a check found a problem, or an audit was off
      2    the request, the data or the disk has to be put right first; one line says what
      130  interrupted (Ctrl-C); kernels and workers were stopped

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments (default: the process's own).

    Returns
    -------
    int
        The exit status.
    """
    args = parser().parse_args(argv)
    for closing in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal stops kernels, too
        signal.signal(closing, signal.default_int_handler)
    try:
        return args.handler(args) or 0
    except UsageError as error:
        return _say(error, 2)
    except ChapterError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted; kernels and workers were stopped, nothing published was changed",
                    130)
    except ModuleNotFoundError as error:
        return _say(f"{args.command} needs the package {error.name}, which is not installed: "
                    "pip install -r requirements.lock", 2)
    except OSError as error:  # full or read-only disks, a file where a folder is due, ...
        return _say(f"{error}; nothing published was changed", 2)
    except Exception as error:
        if type(error).__name__ in ("StoreError", "DataError", "RuntimeError"):
            return _say(error, 2)
        raise


def _say(error: object, status: int) -> int:
    print(f"helpers: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _run(args: argparse.Namespace) -> None:
    """Execute chapters.

    Each chapter is a script, notebooks/NN_name.py. `run` turns it into a notebook, executes that
    in a fresh kernel (one thread a process, no network), strips what differs between two runs and
    moves the result into place. A chapter that fails or is interrupted changes nothing that was
    there.

    Profiles: quick (toy size, seconds to a minute a chapter), laptop (the published numbers, the
    defaults of the scripts), paper (the papers' sizes, for GPUs). notebooks/profiles.yml lists
    their parameters.

    Trained models and measurements are kept in the store, so a run that stopped goes on where it
    was, and models shared between chapters are trained once. Published measurements in results/ are
    read, too, unless --fresh is given. Chapters whose code, parameters, package and pins did not
    change are skipped in a published run; if only the prose changed, the text is refreshed.

    Published notebooks are safe: a run with any -p, another profile, --fresh or --device cuda goes
    to _scratch/run or to --out, and --out notebooks is refused for it.

    parameters:
      -p NAME VALUE sets a parameter of the chapter's parameters cell. VALUE has the type written
      there: 3, 0.5, true, "[16, 256]", or text as it is. A data set of your own is a file:
      -p dataset my.npz (array `images`, N x H x W or N x H x W x C, uint8 or float in [0, 1]).
      A table of your own, for the chapters that have these parameters:
      -p table my.csv -p property sex=Female -p label income=high.

    examples:
      python -m helpers run --profile quick --fresh --build
          run every chapter at toy size from nothing and build that book
      python -m helpers run 02 --profile quick -p n_grid "[16,256]" -p seed 3 --out my_run
          one chapter with other parameters, into my_run/
      python -m helpers run 01 --dry-run
          what chapter 01 would cost at profile laptop
      python -m helpers run
          bring the published book up to date; resumes where it stopped
      python -m helpers run --profile quick --out tests/notebooks
          refresh the baseline that `pytest --nbval` compares with

    exit status: 0 done; 1 a chapter's own code failed; 2 wrong request, data or disk full;
    130 interrupted.
    """
    from helpers import planning, publish

    root = project.need_root()
    if args.dry_run:
        from helpers import costs

        print(costs.report(root, planning.plan(root, args)))
    else:
        publish.run(root, args)


def _build(args: argparse.Namespace) -> None:
    """Build the book's pages.

    Build the HTML pages strictly: any warning fails. Nothing is executed and no numerical package
    is needed; the pages show the notebooks that lie in notebooks/. An earlier _build is removed
    first, because an incremental build forgets warnings. Prints where index.html is.

    examples:
      python -m helpers build
      python -m helpers build --source my_run/book
          build again what `run --out my_run --build` put together

    exit status: 0 built without a warning; 2 otherwise.
    """
    from helpers import book

    source = (args.source or project.need_root()).resolve()
    print(book.build(source, (args.out or source).resolve()))


def _check(args: argparse.Namespace) -> int:
    """Check that everything generated is up to date and the pages hold up.

    Is everything that was generated up to date, and do the built pages hold up?

      - every notebook matches its script, its parameters, the package and the pins;
      - the scoreboard and the table of measurements match the notebooks;
      - every published measurement was made by the code as it is now, or its stage was audited
        since;
      - the built pages: links, anchors, alternative texts, no machine paths, no error outputs;
      - the pages in Chromium, where there is one: console, requests, maths, phone width, axe-core.

    examples:
      python -m helpers build && python -m helpers check
      python -m helpers check --no-pages

    exit status: 0 all is well; 1 problems, one line each; 2 not in the folder of the book.
    """
    from helpers import freshness

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
    """Recompute published measurements.

    Draw K published measurements at random among those whose recorded cost fits into T seconds,
    recompute each from nothing (training included) and compare with what is published: bit for bit
    on the same kind of machine, else within the tolerance that the measurement states. Prints one
    line a cell. With --record, passed cells are noted in results/audits.json, which `check` accepts
    in place of a raised version when a stage's code changed without changing its results.

    examples:
      python -m helpers audit --cells 2
      python -m helpers audit --cells 1 --per-stage --max-seconds 30
          one cell of every stage, at most 30 s each: what the continuous integration runs

    exit status: 0 all within tolerance; 1 one or more off; 2 nothing published fits.
    """
    from helpers import audit

    return audit.main(project.need_root(), args.cells, args.seed, args.max_seconds,
                      per_stage=args.per_stage, device=args.device, record=args.record)


def _bench(args: argparse.Namespace) -> None:
    """Measure speed and agreement against plain implementations.

    Measure how fast the parts of the book are against the plain way of computing the same thing.

    Both sides of a ratio are called in turn in one process, on one thread, after a warm-up; a ratio
    is the median over rounds with a 95 % bootstrap interval. Peak memory is taken in a process of
    its own for each side. Leave the machine alone meanwhile: a measurement on a busy one is marked
    as such.

    benchmarks:
      closed    Closed-form denoiser against two broadcast passes over the data
      denoisers Training small denoisers together against a `torch` loop over them
      novelty   Novelty score (nearest reference) against the array of all products
      sampling  Sampling against the loop of a `diffusers` pipeline on the same weights
      shadow    Training many small classifiers at once against loops over them
      solvers   Network calls that each solver needs
      training  Training step against the plain `diffusers` training loop

    examples:
      python -m helpers bench
      python -m helpers bench --only closed --only novelty
      python -m helpers bench --device cuda --out results/bench.json
      python -m helpers bench --quick --out toy.json

    exit status: 0 measured (a goal that was missed is marked in the table); 2 the request has to be
    put right first.
    """
    bench.main(args)


def _data(args: argparse.Namespace) -> int:
    """Make or check the compact data files.

    They come from pinned archives, whose SHA-256 is checked before unpacking. `recall` measures how
    often the descriptors find altered copies.
    """
    from helpers import archives

    return archives.main(args.name, args.folder, args.check)


def _compare(args: argparse.Namespace) -> None:
    """Compare two models of your own on the noise bank.

    Do two models of your own draw the same picture from the same noise? Give their samples, or
    their pipelines.

    Samples: safetensors files with an array `images`, N x H x W x C or N x C x H x W, uint8 or
    float in [0, 1] or [-1, 1]; image i of both was drawn from noise i of the bank (`python -m
    helpers noise` writes it; start from sigma_max times that noise).
    Pipelines: folders written by diffusers (`save_pretrained`) with a UNet2DModel in safetensors
    and a scheduler. Both are sampled from the bank with a deterministic solver: DDIM for DDPM-style
    schedulers, the scheduler itself for EDM and flow matching. Nothing is downloaded.

    Reported: RP score (share of noises whose two pictures a descriptor calls the same), MAE score
    (share below 15/255 mean absolute difference), each with a 95 % interval and its permuted-noise
    null. Written to --out: comparison.json and plate.png, pairs of pictures side by side.

    examples:
      python -m helpers compare --a first.safetensors --b second.safetensors
      python -m helpers compare --pipeline-a runs/a --pipeline-b runs/b --noise-count 256

    exit status: 0 compared; 2 the files do not fit together, and one line says why.
    """
    from helpers import compare

    compare.main(args)


def _attack(args: argparse.Namespace) -> None:
    """Test what a classifier of your own tells about its training records.

    Which of two ratios did its training set have, the share of records with the property? Write the
    published probe records, run your model on them, and give its outputs back.

    Records (--probes): a CSV with `id` (0, 1, ...), the table's own columns, and last `label` (1:
    employed in acs_ma, salary above 50K in adult) and `property` (1: sex=Female or race=White),
    which are not for your model. 1,000 records with the property come first, then 1,000 without;
    for adult race 500 of each. --encoded writes float32 `features` [2000, d] with their `names`,
    numbers standardised over the whole table, categories one-hot. They are test records on which no
    shadow model was trained.

    Outputs (--outputs): a .npz with one array, `probabilities` of label 1 or their `logits`, shape
    [2000] or [models, 2000], in the order of the records.

    Reported for each model: the ratio by the KL attack and a threshold calibrated on held-out
    shadows (the headline), by the zero rule beside it, the probability of the second ratio (prior
    1/2), and the ratio itself estimated from shadows of 0, 0.1, ..., 1; all with 95 % intervals,
    and how often the rule is right on shadows that it has not seen. `distance` (mean KL from the
    nearer shadows) says whether your model resembles the shadows at all.

    The shadows are perceptrons of 32 and 16 units, each trained on 8,000 records (adult: 2,500;
    adult race: 1,500) of the adversary's part of the table. A model trained otherwise, with another
    architecture, more or fewer records or another source, may be shifted by more than the intervals
    say. fashion16 has no published shadows: its records are images.

    --make-shadows trains the shadows of the given table and property (550 models, a minute or two)
    unless the store has them, and writes their outputs into results/, where they stay.

    examples:
      python -m helpers attack --probes probes.csv
          then, in Python: numpy.savez("mine.npz", probabilities=model.predict_proba(...)[:, 1])
      python -m helpers attack --outputs mine.npz --ratios 0.5 0.3 --json mine.json
      python -m helpers attack --table adult --property sex --encoded probes.npz

    exit status: 0 written or tested; 2 the request or the file has to be put right, and one line
    says what.
    """
    from helpers import own_model

    own_model.main(project.need_root(), args)


def _attack_diffusion(args: argparse.Namespace) -> None:
    """Test what a diffusion model of your own tells about its training records.

    Which of two ratios did its training set have, the share of records with the property? Take the
    published noises, sample your model from them with a deterministic solver, and give the samples
    back. Published shadows: pictures of Fashion-MNIST averaged down to 8 x 8, property footwear,
    ratios 0, 0.1, ... 1, and 0.45 and 0.48. For anything else, train shadows on data like your
    model's (`train-shadows`) and name their folders by --shadows.

    Noises (--write-noise): array `noise`, float32 [200, 1, 8, 8] (with --shadows, of their shape),
    and `indices`. An EDM-type model starts from sigma_max times the noise, a variance-preserving
    one (DDPM, DDIM) from the noise itself.

    Samples (--samples): array `samples`, or the only array of the file, [noises, C, H, W],
    [noises, H, W, C], [noises, H, W] or any of these with models in front; uint8, or floats in
    [-1, 1]. Sample i belongs to noise i, unless an array `indices` names the noises. Larger
    pictures are not averaged down: they started from other noises. Features of a table are floats
    [noises, d], encoded as about.json of the shadows lists them.

    Pipelines (--pipeline): a folder written by diffusers (`save_pretrained`), safetensors only,
    with an unconditional UNet2DModel of the shadows' shape. A scheduler that draws noise on the way
    is refused: the attack needs the map from noise to picture.

    Reported for each model: the ratio by the paired attack (mean absolute difference from the
    shadows' samples of the same noises) and a threshold calibrated on held-out shadows, by the zero
    rule beside it, the probability of the second ratio (prior 1/2), and the ratio itself, estimated
    from the shadows of all ratios; with 95 % intervals, and how often the rule is right on shadows
    that it has not seen. First comes a fit test: a model that is farther from the shadows of every
    ratio than 99 % of held-out shadows are (than all of them, where there are fewer than 100) gets
    `cannot judge` instead.

    --make-shadows trains the published shadows (208 models, some ten minutes on two cores) unless
    the store has them, and writes their samples into results/, where they stay.

    examples:
      python -m helpers attack-diffusion --write-noise noise.npz
          then, in Python: numpy.savez("mine.npz", samples=sampler(80 * noise))
      python -m helpers attack-diffusion --samples mine.npz --ratios 0.5 0.3 --json mine.json
      python -m helpers attack-diffusion --pipeline runs/mine --steps 50
      python -m helpers attack-diffusion --samples mine.npz --shadows mine/ratio-0.5 mine/ratio-0.3

    exit status: 0 written or tested; 2 the request or the file has to be put right, and one line
    says what.
    """
    from helpers import noise_audit

    noise_audit.main(args)


def _train_shadows(args: argparse.Namespace) -> None:
    """Train shadow diffusion models on records of your own.

    For `attack-diffusion --shadows`: small denoisers at two or more ratios, trained on records like
    those of the model that you want to test, and their samples of the published noises.

    Data (--data): a .npz with `images` [n, H, W], [n, H, W, C] or [n, C, H, W], uint8 or floats in
    [-1, 1], and `property`, 0 or 1 for each (--property names another array); fashion16, its whole
    training set at side 8, property footwear; or a table, acs_ma, adult or a .csv or .parquet file,
    with --property column=value and --label column, whose encoded features are the records.

    The records are cut in two halves at random. Shadows of even number draw from one, those of odd
    number from the other, so each can be judged by shadows with which it shares no record. Leave
    out the records of the model under test, if you know them. Each shadow is a perceptron of 256
    and 256 units with EDM's objective; samples are drawn by 18 steps of Heun's method.

    Written to --out, for each ratio: ratio-R/samples.safetensors (uint8, or float16 for a table;
    [count, noises, ...]) and about.json. A run that was interrupted goes on where it stopped; a
    ratio that is there, made with the same arguments, is left as it is.

    examples:
      python -m helpers train-shadows --data mine.npz --ratios 0.5 0.3 --out shadows
      python -m helpers train-shadows --data fashion16 --side 16 --ratios 0.5 0.3 --out shadows16
      python -m helpers train-shadows --data people.csv --property sex=Female --label paid \
          --ratios 0.5 0.3 --out people

    exit status: 0 trained, or there already; 2 the request or the data have to be put right, and
    one line says what.
    """
    from helpers import own_shadows

    own_shadows.main(args)


def _noise(args: argparse.Namespace) -> None:
    """Write the published noise bank to a file.

    Write noises 0 to N-1 of the published bank: standard normal, float32, array `noise` [N, C, H,
    W]. Noise i is the same whatever N is. Start a sampler from sigma_max times it (80 in this book;
    for a DDPM-style sampler, whose start has unit variance, from the noise itself).

    examples:
      python -m helpers noise --count 256 --shape 3 32 32 --out noise.safetensors

    exit status: 0 written; 2 the file could not be written.
    """
    from helpers import compare

    print(compare.write_noise(args.out, args.count, tuple(args.shape), args.seed))
