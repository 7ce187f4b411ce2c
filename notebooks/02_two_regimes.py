# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (chap:two-regimes)=
# # When do two models agree, when do they copy, when do they differ?
#
# {cite:t}`zhang2024emergence` train networks of three widths on subsets of one data set and plot how often two
# draw the same picture from the same noise, against the number of training images $N$. Read off their figure 2 to
# about .01, widths 64 and 256 agree on .62 of the noises at $N = 2^6$, on .02 at $2^{13}$ and on .61 at $2^{15}$:
# at the left end both copy training images, at the right end neither does. Novelty crosses one half at
# $2^{11.4}$, $2^{12.4}$ and $2^{13.3}$ images, growth with the number of parameters to the power .47.
#
# Here networks are far smaller and all make {glue:text}`fixed_steps` training steps. Agreement (RP) of the
# narrowest with the widest is {glue:text}`rp_first` at the smallest $N$, {glue:text}`rp_trough` at its lowest
# ($N$ = {glue:text}`rp_trough_n`) and {glue:text}`rp_last` at the largest; novelty of the middle width crosses
# one half at {glue:text}`transition_n` images. On few images, the steps until a network begins to copy follow
# $N$ to the power {glue:text}`onset_slope`.

# %% tags=["parameters"]
dataset: str = "fashion16"  # built-in set, or a path to your own .npz / .safetensors
size: int = 8  # image side of the sweep; larger images are area-averaged to it
n_grid: list[int] = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]  # training images
disjoint_to: int = 16384  # largest N with a disjoint half; beyond it N is a prefix of the whole set
widths: list[str] = ["unet-20k", "unet-80k", "unet-320k"]  # networks, from narrow to wide
middle: str = "unet-80k"  # the one with a second seed, a disjoint half and the two other arms
objective: str = "edm"  # training objective
steps: int = 1000  # Adam steps of the sweep, whatever N
earlier: list[int] = []  # steps of the sweep at which it is looked at as well (those below `steps`)
batch: int = 64  # images a step
rate: float = 2e-3  # learning rate
warmup: int = 100  # steps of its linear rise
noises: int = 1024  # noises of the published bank
grid_descriptor: str = "pixels"  # descriptor of RP and GL in the sweep: pixels, squeezenet, sscd
long_grid: list[int] = [16, 32, 64, 128, 256]  # N of the arm that trains until it copies
long_steps: int = 8000  # most steps of that arm
long_marks: list[int] = [125, 250, 500, 1000, 1500, 2000, 4000, 6000]  # looks on the way
until_copies: float = 0.5  # share of copies at which a look ends the run
long_noises: int = 512  # noises at each look
confirm_size: int = 16  # image side of the confirmation
confirm_grid: list[int] = [64, 1024, 16384]  # its training images
confirm_steps: int = 2000  # its Adam steps
descriptor: str = "squeezenet"  # its descriptor
sscd_path: str = ""  # absolute path of your SSCD TorchScript file, for descriptor sscd
sscd_sha256: str = ""  # its SHA-256
columns: int = 12  # noises on the plates
seed: int = 0  # seed of the networks (the second is seed + 1), of resampling and permutations
# Rules, fixed before the run. RP is judged; "partly" if only the MAE score meets a rule on agreement
rule_c2: float = 0.2  # C2: RP at each end above the trough by this, narrowest against widest width
rule_c3: tuple = (0.3, 0.7)  # C3: slope of log2 N(GL = 1/2) on log2 parameters lies between
rule_c8: float = 0.1  # C8: the trough of two seeds of one width is shallower by this
rule_c17: float = 0.1  # C17: agreement peaks before this share of copies; onset grows with N
guard: float = 1.10  # C18: held-out loss at the largest N at most this times the best

# %% tags=["hide-input"]
from itertools import combinations

import numpy as np

from helpers import chapter, datasets, descriptors, figures, scores, sweeps, verdicts
from helpers.diffusion import Cell
from helpers.intervals import Interval, difference, trough_depth
from helpers.maps import Plan, Trial, run
from helpers.noise import Bank
from helpers.predictors import grids

c = chapter.begin("02_two_regimes", globals())
[sizes], [long_sizes, confirm_sizes] = grids(2, n_grid=n_grid), grids(1, long_grid=long_grid, confirm_grid=confirm_grid)
if not (sizes[0] <= disjoint_to and middle in widths and 1 < len(widths) == len({*widths})
        and min(noises, long_noises, columns + 1) > 1 and 0 < until_copies <= 1):
    raise ValueError(
        f"need disjoint_to={disjoint_to} of at least {sizes[0]}, middle={middle!r} among two or more different widths="
        f"{widths}, noises={noises} and long_noises={long_noises} above 1, columns={columns} above 0, "
        f"until_copies={until_copies} above 0 and at most 1")
images, large = datasets.load(dataset, size), datasets.load(dataset, confirm_size)


def train(n, source=images, half=0):
    return source.subset(n, half=half if n <= disjoint_to else None)


for of, n in [(images, n) for n in sizes + long_sizes] + [(large, n) for n in confirm_sizes]:
    if min(len(np.unique(train(n, of, half), axis=0)) for half in (0, 1)) < 2:
        raise datasets.DataError(f"{dataset}: the first {n} images are equal; use larger sets")
look, fine = (descriptors.by_name(name, of.test, c.store, sscd_path=sscd_path, sscd_sha256=sscd_sha256)
              for name, of in ((grid_descriptor, images), (descriptor, large)))
print(f"{images.name}: {len(images.train):,} training images, {images.channels} channels; sweep at {size} x "
      f"{size}, N = {', '.join(f'{n:,}' for n in sizes)}; confirmation at {confirm_size} x {confirm_size}")

# %% [markdown]
# ## The experiment
#
# Subsets are nested. At every $N$ five networks make the same number of steps: three widths on the same images;
# the middle width from another seed (initial weights, batches, training noise); and from that seed on a *disjoint*
# set of $N$ images, which tells *the same images* from *the same distribution* {cite:p}`kadkhodaie2024generalization`.
# All start from one bank of noises and go through one solver of {eq}`eq:pf-ode`. RP {eq}`eq:def-rp` and GL
# {eq}`eq:def-gl` compare whitened pictures, with a threshold set once on held-out images ({doc}`/book/data`); the
# MAE score {eq}`eq:def-mae` stands beside them. The null permutes noises ($\kappa$ is the agreement beyond it, as a
# share of what is left); the trivial baseline answers each noise with the training image nearest to it.
#
# Equal steps mean {glue:text}`epochs_first` epochs at the smallest and {glue:text}`epochs_last` at the largest
# $N$. For this confound {cite:p}`favero2025bigger,bonnaire2025why` a second arm trains the middle width *until it
# copies*: a picture three times nearer to one training image than to any other {cite:p}`gu2023memorization`.

# %% tags=["hide-input"]
bank, other = Bank(count=noises), seed + 1


def cell(n, network=middle, half=0, seed=seed, **more) -> Cell:
    usual = dict(size=size, steps=steps, batch=batch, rate=rate, warmup=warmup, objective=objective,
                 snapshots=tuple(s for s in earlier if s < steps))
    return Cell(dataset=dataset, n=n, half=half if n <= disjoint_to else None, network=network, seed=seed,
                **(usual | more))


roles = {w: {"network": w} for w in widths}
roles |= {"second seed": {"seed": other}, "disjoint": {"half": 1, "seed": other}}
trials = {(role, n): Trial(cell(n, **spec), bank) for role, spec in roles.items() for n in sizes
          if role != "disjoint" or n <= disjoint_to}
until = dict(steps=long_steps, snapshots=tuple(s for s in long_marks if s < long_steps), until_copies=until_copies)
bigger = dict(size=confirm_size, steps=confirm_steps, snapshots=())
trials |= {("long", n): Trial(cell(n, **until), Bank(count=long_noises)) for n in long_sizes}
trials |= {(s, "confirm", n): Trial(cell(n, seed=s, **bigger), bank, Plan(raw=True))  # shared with chapter 03
           for n in confirm_sizes for s in (seed, other)}
maps = dict(zip(trials, run(list(trials.values()), c.store, device=c.device, workers=c.workers), strict=True))
print(f"{sum(key[0] in roles for key in trials)} models in the sweep, {len(long_sizes)} trained until they "
      f"copy, {2 * len(confirm_sizes)} for the confirmation; {noises} noises")

# %% [markdown]
# ## Agreement against the number of images
#
# {numref}`fig:regimes-plate` shows the first noises of the bank, nothing selected, for the middle width;
# {numref}`fig:regimes-agreement` is this book's version of the paper's figure 2.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:regimes-plate", "caption": "Pictures of one width from the same noises (columns) after the same number of steps, for growing training sets (rows, one model each). For the two smallest sets the nearest training image is shown below."}, "image": {"alt": "Rows of small pictures, one row for each number of training images, the smallest at the top; below each of the first two rows stand the nearest training images."}}
last, top, shown = sizes[-1], max(n for n in sizes if n <= disjoint_to), min(columns, noises, long_noises)
rows = {}
for n in sizes[:: 2 if len(sizes) > 7 else 1]:
    rows[f"N = {n:,} ({steps * batch / n:,.0f} epochs)"] = found = maps[middle, n].last[:shown]
    if len(rows) < 4:
        rows[f"nearest of these {n:,}"] = train(n)[scores.nearest_two(found, train(n))[1]]
plate = figures.plate(list(rows.values()), list(rows))
c.save_figure(plate, "plate")
plate

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:regimes-agreement", "caption": "RP score (top) and MAE score (bottom) of pairs of models against the number of training images, after the same number of steps; one pair of models a point, bands are 95 % Wilson intervals over noises. Null: the narrowest against the widest width, noises permuted. Nearest to the noise: the middle width against the training image nearest to each noise. Black: the paper's widths 64 and 256, read off its released figure (other data, descriptor and network sizes)."}, "image": {"alt": "Two panels of curves over the number of training images on a logarithmic axis, the RP score above the MAE score: pairs of unequal and of equal width, on the same and on other images, the permuted-noise null and the nearest-image baseline. The paper's black curve in the upper panel has its trough near eight thousand images."}}
paper_sizes = [2**k for k in range(6, 16)]  # figure 2 of the release: widths 64 / 256, and 128
paper_rp, paper_gl = ([Interval(v, v - .01, v + .01) for v in values] for values in (
    (.62, .62, .55, .47, .37, .30, .10, .02, .49, .61), (.00, .00, .00, .00, .00, .01, .28, .82, .98, .99)))
looks = maps[middle, last].record["marks"]  # steps at which the sweep is looked at; the last is judged
after = {made: sweeps.Sweep(sizes, {r: [maps[r, n].images[k] for n in sizes if (r, n) in maps] for r in roles},
                            [train(n) for n in sizes], lambda x: look.embed_cached(x, c.store), look.threshold, seed)
         for k, made in enumerate(looks)}
end, narrow, wide, short = after[looks[-1]], widths[0], widths[-1], {w: w.split("-")[-1] for w in widths}
pairs = {f"{short[a]} / {short[b]}": (a, b) for a, b in combinations(widths, 2)}
unequal, (two_seeds, halves, one_seed) = f"{short[narrow]} / {short[wide]}", (f"{short[middle]}, {what}" for what in (
    "two seeds", "other images and seed", "other images"))
equal = {two_seeds: (middle, "second seed"), halves: (middle, "disjoint"), one_seed: ("second seed", "disjoint")}
hits = {p: end.hits(a, b) for p, (a, b) in (pairs | equal).items()}
null, trivial = end.null(narrow, wide), end.nearest(middle, bank.noise((images.channels, size, size)))
figure, axes = figures.panels(2, 1, height=3.9, share_x=True)
for ax, score in zip(axes[:, 0], end.SCORES, strict=True):
    figures.curves(ax, sizes, {p: sweeps.shares(found[score]) for p, found in hits.items()} | {
        "null: permuted noises": null[score], "nearest to the noise": trivial[score]}, ylabel=score, share=True)
figures.sweep(axes[0, 0], paper_sizes, paper_rp, "paper, 64 / 256", color="black")
figures.size_axis(axes[1, 0], sizes)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
c.save_figure(figure, "agreement")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
dips, laxer = ({p: sweeps.dip(sizes, found[score], seed) for p, found in hits.items()} for score in end.SCORES)
deep, lax = dips[unequal], laxer[unequal]
shallower = difference(hits[unequal]["RP score"], hits[two_seeds]["RP score"], trough_depth, seed=seed)
header = ("RP, smallest N", "Lowest", "N there", "RP, largest N", "Depth")
c.table(("Pair", *header, "κ of the three RP"), [
    [p, *d.row(), ", ".join(f"{x:.2f}" for x in d.kappa(null["RP score"]))] for p, d in dips.items()],
        "tab:regimes-trough", "The trough of each pair: RP at the ends and at its lowest, and the depth, the lesser "
        "of the falls from the two ends (0 for a curve that only rises); 95 % intervals over noises (Wilson at the "
        "ends, else bootstrap), one pair of models a row.")

# %% [markdown]
# At the smallest $N$ the narrowest and the widest network agree on {glue:text}`rp_first` of the noises (null
# {glue:text}`rp_null_first`, nearest to the noise {glue:text}`rp_nearest_first`), at their lowest on
# {glue:text}`rp_trough`, at the largest $N$ on {glue:text}`rp_last` (null {glue:text}`rp_null_last`): falls of
# {glue:text}`rp_left` and {glue:text}`rp_right` where the rule asks for .2 each. Their MAE score, laxer on small
# pictures, goes from {glue:text}`agreement_first` to {glue:text}`agreement_last` with a trough of depth
# {glue:text}`agreement_depth`. {numref}`tab:regimes-trough` has the other pairs; the rule judges the most unequal.
#
# *Width or seed?* Two seeds of one width fall to {glue:text}`rp_seeds_trough`; the trough of the unequal pair is
# deeper by {glue:text}`shallower` (depth counts from the lower end). *Images or seed?* At the largest $N$ networks
# that share only images agree on {glue:text}`rp_seeds_last`, only the seed (order of batches, training noise) on
# {glue:text}`rp_images_last`, neither on {glue:text}`rp_halves_last` ({glue:text}`rp_halves_first` at the smallest).
#
# ## From copies to new pictures
#
# When does a network stop copying? {numref}`fig:regimes-novelty` gives three answers: novelty (GL), no copies by
# the one-third rule, and agreement with a network that never saw these images. The transition is where a curve
# crosses one half ({numref}`tab:regimes-length`; with `-p earlier` it shows several lengths of training).

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:regimes-novelty", "caption": "Novelty score GL (top), share of pictures that are no copies by the one-third rule (middle) and MAE score with the middle width trained on the largest disjoint set (bottom), against the number of training images; one model a point and width, equal steps, 95 % Wilson intervals over noises. Held-out images: GL of real images that no network has seen. Black: the paper's width 128, read off its released figure."}, "image": {"alt": "Three panels over the number of training images on a logarithmic axis, one curve for each width: the novelty score, the share of pictures that are no copies, and the agreement with a network trained on other images. The paper's black curve in the first panel rises between two and sixteen thousand."}}
unseen = look.embed(images.test[:noises])
real = sweeps.shares(sweeps.over_sizes(lambda refs: end.novel(unseen, refs), end.references))
novelty = {made: of.novelty(widths, of.pictures["disjoint"][-1]) for made, of in after.items()}
measures = novelty[looks[-1]]
figure, axes = figures.panels(3, 1, height=2.9, share_x=True)
for ax, (name, of) in zip(axes[:, 0], measures.items(), strict=True):
    figures.curves(ax, sizes, {short[w]: sweeps.shares(of[w]) for w in widths}, ylabel=name, share=True)
figures.sweep(axes[0, 0], sizes, real, "held-out images")
figures.sweep(axes[0, 0], paper_sizes, paper_gl, "paper, 128", color="black")
figures.size_axis(axes[2, 0], sizes)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
parameters = {w: maps[w, last].record["parameters"] for w in widths}
early = [sweeps.dip(sizes, of.hits(narrow, wide)["RP score"], seed) for of in after.values()]
turns = {name: [sweeps.transition(sizes, parameters, found[name], seed=seed) for found in novelty.values()]
         for name in measures}
rows = [[f"{unequal}: {what}", *found] for what, *found in zip(header, *(d.row() for d in early), strict=True)]
for name, of in turns.items():
    rows += [[f"{name} = 1/2: N for {short[w]} ({parameters[w]:,} parameters)", *(
        sweeps.text(sweeps.unlog(t.half[w], sizes), ",.0f") for t in of)] for w in widths]
    rows.append([f"{name} = 1/2: exponent", *(t.power for t in of)])
c.table(("Quantity", *(f"{made:,} steps" for made in looks)), rows, "tab:regimes-length",
        "The same networks at each length of training: RP of the most unequal pair, number of images at which a share "
        "crosses one half, exponent of its growth with the parameters; 95 % intervals over noises, one model a point. "
        f"Crossings outside {sizes[0]:,} to {last:,} are censored, interval ends are cut there.")

# %% [markdown]
# GL of the middle width goes from {glue:text}`gl_first` to {glue:text}`gl_last` and crosses one half at
# {glue:text}`transition_n` images (real images that nobody trained on score {glue:text}`gl_real` at the largest
# $N$). Of its pictures {glue:text}`uncopied_first` are no copies at the smallest $N$; that share crosses at
# {glue:text}`uncopied_n` images, agreement with unseen data at {glue:text}`far_n`. The exponents of GL and of the
# one-third rule are {glue:text}`transition_exponent` and {glue:text}`uncopied_exponent` (paper, GL: .47). With
# equal steps, time as well as capacity may stop the copying.
#
# ## Generalise first, copy later?
#
# {numref}`fig:regimes-film` holds the images fixed and follows one run; {numref}`fig:regimes-training` counts.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:regimes-film", "caption": "One network trained on few images until it copies: pictures from the same noises (columns) along training (rows), then the training image nearest to each last picture, and the picture of a network trained on the largest disjoint set."}, "image": {"alt": "Rows of small pictures along training, the earliest at the top; below them a row of the nearest training images and a row of a network trained on other images."}}
film_n, far, rows = long_sizes[len(long_sizes) // 2], end.pictures["disjoint"][-1], {}
film = maps["long", film_n]
for i in np.unique(np.linspace(0, len(film.images) - 1, 5).round().astype(int)):
    rows[f"N = {film_n:,}, {film.record['marks'][i]:,} steps"] = found = film.images[i][:shown]
rows["nearest of its training images"] = train(film_n)[scores.nearest_two(found, train(film_n))[1]]
rows[f"N = {top:,}, other images and seed"] = far[:shown]
plate = figures.plate(list(rows.values()), list(rows))
c.save_figure(plate, "film")
plate

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:regimes-training", "caption": "Share of copies by the one-third rule (top, line at the onset) and MAE score with the network trained on the largest disjoint set (bottom, dotted: permuted noises) along training, for few training images; one model a curve, 95 % Wilson intervals over noises. A run ends when half of a probe set are copies or its steps are used up."}, "image": {"alt": "Two panels over training steps on a logarithmic axis, one curve for each number of training images: the share of copies above, the agreement with a network trained on other images below."}}
count = min(noises, long_noises)
runs = {n: sweeps.watch(maps["long", n].record["marks"], maps["long", n].images[:, :count], train(n), far[:count],
                        rule_c17, seed) for n in long_sizes}
null_far = scores.null_score(maps["long", long_sizes[-1]].last[:count], far[:count], scores.mae_score, seed)
figure, axes = figures.panels(2, 1, share_x=True)
for ax, name, of, level, style in ((axes[0, 0], "copies", "copied", rule_c17, "-"),
                                   (axes[1, 0], "like unseen data", "alike", null_far.value, ":")):
    for n, found in runs.items():
        label = f"N = {n:,} ({batch / n:g} epochs a step)"
        figures.sweep(ax, found.steps, sweeps.shares(getattr(found, of)), label)
    ax.axhline(level, color="0.3", linewidth=1, linestyle=style)
    ax.set(ylabel=name, ylim=(-0.03, 1.03))
figures.size_axis(axes[1, 0], sorted({*until["snapshots"], long_steps}), "training steps")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
grown, rows = sweeps.growth(runs, rule_c17, seed), []
for n, found in runs.items():
    onset, copied, near = sweeps.unlog(found.onset, found.steps), *map(sweeps.shares, (found.copied, found.alike))
    rows.append([f"{n:,}", f"{found.steps[-1]:,}", copied[-1], *(
        (f"{onset:,.0f}", f"{onset.value * batch / n:,.0f}", found.lead) if n in grown.reached
        else (f"censored: {onset}", "–", "–")), near[found.best], f"{found.steps[found.best]:,}", near[-1]])
c.table(("N", "Steps made", "Copies at the end", "Onset, steps", "Onset, epochs", "Lead, octaves",
         "Like unseen data, peak", "Step of the peak", "Like unseen data, end"), rows, "tab:regimes-onset",
        f"Training until copying, one network for each N. Onset: copies reach {rule_c17:.0%}. Lead: octaves of steps "
        "from the peak of agreement with unseen data to the onset. 95 % intervals over noises (Wilson; bootstrap for "
        "onset and lead).")

# %% [markdown]
# The steps until copying begins follow $N$ to the power {glue:text}`onset_slope` (interval over the models that
# copied; over noises {glue:text}`onset_slope_noises`, without bounds where a resample never copies); 1 would be a
# fixed number of epochs. Censored within {glue:text}`long_steps` steps: {glue:text}`onset_censored`. The least lead
# of agreement over copying is {glue:text}`least_lead` octaves; above 0, a network first draws what one trained on
# other images draws, and copies later.
#
# ## Which models count
#
# {numref}`tab:regimes-guard` divides every held-out denoising loss by the best of the sweep. At the largest $N$
# more than 10 % above it is undertrained, and a verdict that rests on such a model is at most "partly". At small
# $N$ the cause can be the thing under study: a model above the guard is called *memorising* when its loss on its
# own images is within the guard, else *undertrained*.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
lost = {key: found.record for key, found in maps.items() if key[0] in roles}
best_loss = min(record["held_out"]["loss"] for record in lost.values())
excess, passes = sweeps.clear({r: lost[r, last]["held_out"] for r in roles if (r, last) in lost}, guard, seed)
c.table(("N", "Epochs", *(short.get(r, f"{short[middle]}, {r}") for r in roles)),
        [[f"{n:,}", f"{steps * batch / n:,.1f}", *(
            sweeps.guarded(lost[r, n], best_loss, guard) if (r, n) in lost else "–" for r in roles)] for n in sizes],
        "tab:regimes-guard", f"Held-out loss of every model of the sweep after {steps:,} steps, relative to the "
        "best of all. Above the guard: m, memorising; u, undertrained.")

# %% [markdown]
# At the largest $N$ the worst model has {glue:text}`guard_worst` times the loss of the best (interval over noise
# levels). Models above the guard there: {glue:text}`guard_above` of {glue:text}`guard_models`. Whether one lacks
# capacity or steps the rule does not ask.
#
# ## Confirmation at the full size
#
# {numref}`tab:regimes-confirm`: two seeds of the middle width, size and descriptor of {ref}`chap:same-noise`.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
full = sweeps.Sweep(confirm_sizes, {s: [maps[s, "confirm", n].last for n in confirm_sizes] for s in (seed, other)},
                    [train(n, large) for n in confirm_sizes], lambda x: fine.embed_cached(x, c.store),
                    fine.threshold, seed)
confirmed = {name: sweeps.shares(found) for name, found in (full.hits(seed, other) | {
    name: of[seed] for name, of in full.novelty([seed]).items()}).items()}
c.table(("N", "Epochs", *confirmed, "Null of RP", "Held-out losses"),
        [[f"{n:,}", f"{confirm_steps * batch / n:,.1f}", *found, " and ".join(
            f"{maps[s, 'confirm', n].record['held_out']['loss']:.3f}" for s in (seed, other))]
         for n, *found in zip(confirm_sizes, *confirmed.values(), full.null(seed, other)["RP score"], strict=True)],
        "tab:regimes-confirm", f"Two seeds at {confirm_size} x {confirm_size} after {confirm_steps:,} steps, descriptor "
        f"{fine.name}; 95 % Wilson intervals over {noises:,} noises, one pair of models a row.")

# %% [markdown]
# From the smallest to the largest $N$ RP goes from {glue:text}`confirm_rp_first` to {glue:text}`confirm_rp_last`,
# the MAE score from {glue:text}`confirm_mae_first` to {glue:text}`confirm_mae_last`, GL from
# {glue:text}`confirm_gl_first` to {glue:text}`confirm_gl_last`. So few points cannot show a trough.
#
# Back in the sweep, {numref}`fig:regimes-thresholds` moves the threshold. The trough is there only where the
# curve of the lowest $N$ lies below those of both ends.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:regimes-thresholds", "caption": "RP score of the narrowest and the widest network of the sweep against its threshold, at the smallest, the lowest and the largest number of training images, and for permuted noises; one pair of models a curve, 95 % Wilson intervals over noises. The vertical line is the threshold used."}, "image": {"alt": "Curves of the share of noises whose similarity exceeds a threshold, falling from left to right: three numbers of training images and permuted noises. A vertical line marks the threshold used."}}
x, y = end.embedded[narrow], end.embedded[wide]
found = {f"N = {sizes[k]:,}": scores.similarity(x[k], y[k]) for k in sorted({0, deep.at, len(sizes) - 1})}
found["permuted noises"] = scores.similarity(x[-1], tuple(np.roll(part, 1, axis=0) for part in y[-1]))
grid = np.linspace(0, 1, 51)
figure = figures.threshold_curves({name: scores.threshold_curve(of, grid) for name, of in found.items()}, grid,
                                  xlabel="threshold on the similarity", threshold=round(look.threshold, 2))
figure.axes[0].get_legend().remove()
figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure

# %% tags=["remove-cell", "nbval-ignore-output"]
gl, uncopied, like = (of[-1] for of in turns.values())
first = {name: sweeps.shares(of[middle]) for name, of in measures.items()}
c.record_all(
    ".2f", rp_first=deep.first, rp_trough=deep.lowest, rp_last=deep.last, rp_null_first=null["RP score"][0],
    rp_null_last=null["RP score"][-1], rp_nearest_first=trivial["RP score"][0],
    rp_seeds_trough=dips[two_seeds].lowest, rp_seeds_last=dips[two_seeds].last,
    rp_images_last=dips[one_seed].last, rp_halves_first=dips[halves].first, rp_halves_last=dips[halves].last,
    agreement_first=lax.first, agreement_last=lax.last, agreement_depth=lax.depth, shallower=shallower,
    gl_first=first["GL"][0], gl_last=first["GL"][-1], gl_real=real[-1], uncopied_first=first["no copies"][0],
    transition_exponent=gl.power, uncopied_exponent=uncopied.power, guard_worst=excess,
    **{name: "not measurable" if np.isnan(x.value) else x if np.isfinite([x.low, x.high]).all() else x.value
       for name, x in (("onset_slope", grown.over_models), ("onset_slope_noises", grown.over_noises))},
    least_lead=min((runs[n].lead for n in grown.reached), key=lambda x: x.value, default="not measurable"),
    onset_censored=", ".join(f"N = {n:,}" for n in grown.censored) or "none",
    **{f"confirm_{key}_{end}": confirmed[name][k] for key, name in (
        ("rp", "RP score"), ("mae", "MAE score"), ("gl", "GL")) for end, k in (("first", 0), ("last", -1))})
c.record_all(".3f", rp_left=deep.left, rp_right=deep.right)
c.record_all(",.0f", "images", rp_trough_n=sizes[deep.at], **{name: sweeps.unlog(of.half[middle], sizes)
             for name, of in (("transition_n", gl), ("uncopied_n", uncopied), ("far_n", like))})
c.record_all(",.0f", epochs_first=steps * batch / sizes[0], epochs_last=steps * batch / last, fixed_steps=steps,
             long_steps=long_steps, guard_above=sum(not good for good in passes.values()), guard_models=len(passes))

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
at_least, at_most, every = verdicts.at_least, verdicts.at_most, verdicts.every


def counted(outcome, *names):  # a model above the guard supports at most "partly"
    return outcome | {"interval_holds": outcome["interval_holds"] and all(passes[r] for r in names)}


fall, lax_fall = (every(at_least(d.left, rule_c2), at_least(d.right, rule_c2)) for d in (deep, lax))
fall["interval_holds"] &= min(deep.first.low, deep.last.low) > deep.lowest.high
chance = dict(null=null["RP score"][deep.at], baseline=trivial["RP score"][deep.at])
c.verdict("C2", f"RP of {unequal} at the smallest and at the largest N above its lowest by {rule_c2}, "
          "intervals apart (shown: the lesser fall)", value=deep.depth, paper=".60 and .59", fmt=".3f",
          some_settings=lax_fall["point_holds"], **chance, **counted(fall, narrow, wide))
c.verdict("C3", f"slope of log2 N at GL = 1/2 on log2 parameters within {rule_c3}", value=gl.power, paper=".47",
          baseline="0: no shift", **counted(every(
              at_least(gl.exponent, rule_c3[0]), at_most(gl.exponent, rule_c3[1])), *widths))
c.verdict("C8", f"trough of two seeds shallower than that of {unequal} by {rule_c8}", value=shallower, **chance,
          **counted(at_least(shallower, rule_c8), narrow, wide, "second seed"))
leads = [at_least(runs[n].lead, 0) for n in grown.reached]
c.verdict("C17", f"where copying reaches {rule_c17:.0%}, agreement with the large-N net peaks before; "
          "slope of log2 onset steps on log2 N above 0 (shown)", paper="1 (others)", null=null_far,
          value=grown.over_models if np.isfinite(grown.over_models.value) else "not measurable",
          baseline="0: no growth", some_settings=any(x["point_holds"] for x in leads),
          **every(*leads, at_least(grown.over_models, 0)))
c.verdict("C18", f"held-out loss of every model at the largest N at most {guard} times the best (shown: "
          "the worst)", value=excess, some_settings=sum(passes[w] for w in widths) > 1,
          baseline="1: the best", **at_most(excess, guard))
c.verdict_table("tab:regimes-verdicts", "Verdicts of this chapter, by rules fixed before the run.")

# %% tags=["hide-input"]
c.verdict_words()

# %% [markdown]
# **What would change our mind.** C2 falls with a curve that only rises or only falls, C3 with half-points that do
# not move with the width, C17 with a network that copies before it agrees with one trained on other images.
# Unequal widths that agree in the trough as often as two seeds do would leave it nothing to do with capacity.
#
# **Limits.** All verdicts are judged after {glue:text}`fixed_steps` steps. Longer training moves copying, and with
# it every crossing, to larger $N$ ({numref}`fig:regimes-training`), so the crossings are statements about this
# length; `-p steps 2000 -p earlier "[1000]"` prints two lengths side by side, at twice the cost. One model stands behind each point: intervals cover new noises, not new training runs. Unequal widths share their
# seed, two seeds do not. Nested subsets overlap, so the points of a curve depend on each other. The paper trains
# on samples of a teacher, for 781,000 epochs at $N = 2^6$ and 1,500 at $N = 2^{15}$.
#
# :::{admonition} Rerun this chapter
# :class: tip
# ```bash
# python -m helpers run 02 --profile quick                        # toy size
# python -m helpers run 02 --profile quick -p n_grid "[16,256]" -p seed 3 --out my_run
# python -m helpers run 02 --profile quick -p dataset my.npz -p n_grid "[8,64]" --out my_run
# python -m helpers run 02 --dry-run                              # time, memory and disk of a full run
# python -m helpers run 02                                        # reuses the published measurements
# ```
# What each profile costs is measured on {doc}`/book/performance`.
# :::

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.provenance()
