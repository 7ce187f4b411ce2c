"""The texts of ``--help``: for each subcommand what it does, at length, with examples."""

DESCRIPTION = """\
Run the chapters of the book, build it, check it, and compare models of your own.

Call it from the folder of the book or any folder below it. `COMMAND --help` explains a command.

exit status:
  0    done
  1    a chapter's own code failed, a check found a problem, or an audit was off
  2    the request, the data or the disk has to be put right first; one line says what
  130  interrupted (Ctrl-C); kernels and workers were stopped
"""

RUN = """\
Each chapter is a script, notebooks/NN_name.py. `run` turns it into a notebook, executes that in
a fresh kernel (one thread a process, no network), strips what differs between two runs and moves
the result into place. A chapter that fails or is interrupted changes nothing that was there.

Profiles: quick (toy size, seconds to a minute a chapter), laptop (the published numbers, the
defaults of the scripts), paper (the papers' sizes, for GPUs). notebooks/profiles.yml lists their
parameters.

Trained models and measurements are kept in the store, so a run that stopped goes on where it
was, and models shared between chapters are trained once. Published measurements in results/ are
read, too, unless --fresh is given. Chapters whose code, parameters, package and pins did not
change are skipped in a published run; if only the prose changed, the text is refreshed.

Published notebooks are safe: a run with any -p, another profile, --fresh or --device cuda goes
to _scratch/run or to --out, and --out notebooks is refused for it."""

RUN_EXAMPLES = """\
parameters:
  -p NAME VALUE sets a parameter of the chapter's parameters cell. VALUE has the type written
  there: 3, 0.5, true, "[16, 256]", or text as it is. A data set of your own is a file:
  -p dataset my.npz (array `images`, N x H x W or N x H x W x C, uint8 or float in [0, 1]).

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
130 interrupted."""

BUILD = """\
Build the HTML pages strictly: any warning fails. Nothing is executed and no numerical package is
needed; the pages show the notebooks that lie in notebooks/. An earlier _build is removed first,
because an incremental build forgets warnings. Prints where index.html is."""

BUILD_EXAMPLES = """\
examples:
  python -m helpers build
  python -m helpers build --source my_run/book
      build again what `run --out my_run --build` put together

exit status: 0 built without a warning; 2 otherwise."""

CHECK = """\
Is everything that was generated up to date, and do the built pages hold up?

  - every notebook matches its script, its parameters, the package and the pins;
  - the scoreboard and the table of measurements match the notebooks;
  - every published measurement was made by the code as it is now, or its stage was audited since;
  - the built pages: links, anchors, alternative texts, no machine paths, no error outputs;
  - the pages in Chromium, where there is one: console, requests, maths, phone width, axe-core."""

CHECK_EXAMPLES = """\
examples:
  python -m helpers build && python -m helpers check
  python -m helpers check --no-pages

exit status: 0 all is well; 1 problems, one line each; 2 not in the folder of the book."""

AUDIT = """\
Draw K published measurements at random among those whose recorded cost fits into T seconds,
recompute each from nothing (training included) and compare with what is published: bit for bit
on the same kind of machine, else within the tolerance that the measurement states. Prints one
line a cell. With --record, passed cells are noted in results/audits.json, which `check` accepts
in place of a raised version when a stage's code changed without changing its results."""

AUDIT_EXAMPLES = """\
examples:
  python -m helpers audit --cells 2
  python -m helpers audit --cells 1 --per-stage --max-seconds 30
      one cell of every stage, at most 30 s each: what the continuous integration runs

exit status: 0 all within tolerance; 1 one or more off; 2 nothing published fits."""

COMPARE = """\
Do two models of your own draw the same picture from the same noise? Give their samples, or their
pipelines.

Samples: safetensors files with an array `images`, N x H x W x C or N x C x H x W, uint8 or float
in [0, 1] or [-1, 1]; image i of both was drawn from noise i of the bank (`python -m helpers
noise` writes it; start from sigma_max times that noise).
Pipelines: folders written by diffusers (`save_pretrained`) with a UNet2DModel in safetensors and
a scheduler. Both are sampled from the bank with a deterministic solver: DDIM for DDPM-style
schedulers, the scheduler itself for EDM and flow matching. Nothing is downloaded.

Reported: RP score (share of noises whose two pictures a descriptor calls the same), MAE score
(share below 15/255 mean absolute difference), each with a 95 % interval and its permuted-noise
null. Written to --out: comparison.json and plate.png, pairs of pictures side by side."""

COMPARE_EXAMPLES = """\
examples:
  python -m helpers compare --a first.safetensors --b second.safetensors
  python -m helpers compare --pipeline-a runs/a --pipeline-b runs/b --noise-count 256

exit status: 0 compared; 2 the files do not fit together, and one line says why."""

NOISE = """\
Write noises 0 to N-1 of the published bank: standard normal, float32, array `noise` [N, C, H, W].
Noise i is the same whatever N is. Start a sampler from sigma_max times it (80 in this book; for
a DDPM-style sampler, whose start has unit variance, from the noise itself)."""

NOISE_EXAMPLES = """\
examples:
  python -m helpers noise --count 256 --shape 3 32 32 --out noise.safetensors

exit status: 0 written; 2 the file could not be written."""

TEXTS = {
    "run": ("Execute chapters.", RUN, RUN_EXAMPLES),
    "build": ("Build the book's pages.", BUILD, BUILD_EXAMPLES),
    "check": ("Check that everything generated is up to date and the pages hold up.", CHECK,
              CHECK_EXAMPLES),
    "audit": ("Recompute published measurements.", AUDIT, AUDIT_EXAMPLES),
    "bench": ("Measure speed and agreement against plain implementations.",
              "See `python -m helpers bench --help`.", ""),
    "data": ("Make or check the compact data files.", "See `python -m helpers data --help`.", ""),
    "compare": ("Compare two models of your own on the noise bank.", COMPARE, COMPARE_EXAMPLES),
    "noise": ("Write the published noise bank to a file.", NOISE, NOISE_EXAMPLES),
}
