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
# (chap:oracles)=
# # How much of it can be predicted without training anything?
#
# Two networks agree because both approximate something. {cite:t}`zhang2024emergence` name two
# candidates: with few training images, the closed-form best denoiser *of the training set*, with
# many, that of the *distribution* behind it. Read off the figure of their release (to about .01),
# networks of width 64, 128 and 256 agree with the closed form of $N = 2^6$ images on .48, .51 and
# .51 of the noises and with that of $2^{14}$ images on none. {cite:t}`kadkhodaie2024generalization`
# ask for the decisive test, two networks that share no training image, and find them to be nearly
# one function at about $10^5$ images; {cite:t}`wang2026consistency` answer that such agreement is
# largely linear, so that mean and covariance suffice.
#
# Here every network meets predictors that nobody trained. At $N$ = {glue:text}`n_first` the network
# agrees with the empirical map of its training images on {glue:text}`empirical_first` of the noises
# and with a network that saw other images on {glue:text}`disjoint_first`; from $N$ =
# {glue:text}`handover_n` on the other network predicts it better, and at $N$ = {glue:text}`n_last` it
# does so on {glue:text}`disjoint_last`. A formula that joins local patches reaches
# {glue:text}`patches_last` there, one that knows mean and covariance {glue:text}`gaussian_last`.

# %% tags=["parameters"]
dataset: str = "fashion16"  # built-in set, or a path to your own .npz / .safetensors
size: int = 8  # image side of the sweep; larger images are area-averaged to it
n_grid: list[int] = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]  # training images
widths: list[str] = ["unet-20k", "unet-80k", "unet-320k"]  # networks, from narrow to wide
middle: str = "unet-80k"  # the one with a second seed and a disjoint half
objective: str = "edm"  # training objective
steps: int = 1000  # Adam steps of the sweep and of the mixture law, whatever N
batch: int = 64  # images a step
rate: float = 2e-3  # learning rate
warmup: int = 100  # steps of its linear rise
noises: int = 1024  # noises of the published bank
patch_images: int = 4096  # most training images behind the local-patch map
law_dataset: str = "same"  # images that the mixture law is fitted to; "same" is the set above
law_size: int = 8  # their side
law_grid: list[int] = [16, 64, 256, 1024, 4096, 16384]  # training images drawn from the law
confirm_size: int = 16  # image side of the confirmation
confirm_grid: list[int] = [64, 1024, 16384]  # its training images; a disjoint half for the last
confirm_steps: int = 2000  # its Adam steps
columns: int = 8  # noises on the plates
seed: int = 0  # seed of the networks (the second is seed + 1), of resampling and permutations
# Rules, fixed before the run
rule_c4: float = 0.40  # C4: at N_min, agreement with the empirical map, above nearest-to-noise
rule_c5: float = 0.50  # C5: distance to the true map at N_max, as a part of that at N_min; and
#                        at N_max nearer to the true map than to the empirical map
rule_c6: tuple = (0.60, 0.10)  # C6: disjoint halves agree at least so at N_max, at most so at
#                                N_min; at N_max nearer to each other than to a training image
rule_c7: str = "the interval of the agreement with the Gaussian map lies above that of its null"
#                   (C7, at N_max; the share of paired distance that it explains is printed)
guard: float = 1.10  # C18: held-out loss at N_max at most this times the best

# %% tags=["hide-input"]
import numpy as np
from IPython.display import Markdown

from helpers import chapter, datasets, figures, laws, scores, verdicts
from helpers.diffusion import Cell
from helpers.intervals import Interval, bootstrap, crossing, difference, wilson
from helpers.maps import Closed, Plan, Trial, run
from helpers.noise import Bank

c = chapter.begin("03_oracles", globals())
source = dataset if law_dataset == "same" else law_dataset
for name, side in ((dataset, max(size, confirm_size)), (source, law_size)):
    if side > datasets.load(name).size:
        raise datasets.DataError(f"{name}: images of {datasets.load(name).size} pixels a side, but "
                                 f"{side} are asked for (size, confirm_size, law_size): images "
                                 "are only ever shrunk")
sizes, law_sizes, confirm_sizes = (sorted(set(g)) for g in (n_grid, law_grid, confirm_grid))
if min(len(sizes), len(law_sizes)) < 2 or min(sizes + law_sizes + confirm_sizes) < 2:
    raise ValueError(f"n_grid={n_grid}, law_grid={law_grid}, confirm_grid={confirm_grid}: need two "
                     "sizes in the first two, one in the last, and 2 images in every set")
if middle not in widths or law_sizes[-1] > laws.DRAWS // 2:
    raise ValueError(f"middle={middle!r} must be one of {widths}, and law_grid={law_grid} at most "
                     f"{laws.DRAWS // 2:,}, half of the law's draws")
images, large = datasets.load(dataset, size), datasets.load(dataset, confirm_size)
for n in {*sizes, *confirm_sizes}:
    images.require(n, half=0)
    images.require(n, half=1)
print(f"{images.name}: {len(images.train):,} training images, {images.channels} channels; sweep at "
      f"{size} x {size}, N = {', '.join(f'{n:,}' for n in sizes)}")
print(f"confirmation at {confirm_size} x {confirm_size}; mixture law fitted to {source} at "
      f"{law_size} x {law_size}")

# %% [markdown]
# ## The predictors
#
# A denoiser $D(x, \sigma)$ fixes a map $f_D(\epsilon)$ from noise to picture through the
# probability-flow equation {eq}`eq:def-ode`, whether $D$ was trained or written down. Four can be
# written down. The *empirical* map follows the exact denoiser of the training set, a softmax over
# its images ({eq}`eq:def-empirical`, theorem 1 of {cite:t}`zhang2024emergence`). The *Gaussian* map
# knows their mean and covariance only ({eq}`eq:def-gaussian`). The *local-patch* map
# {cite:p}`niedoba2025mechanistic,kamb2024analytic` is the empirical denoiser applied to a patch
# around each pixel $l$,
#
# ```{math}
# :label: eq:oracles-patches
# D_l(x, \sigma) = \sum_{i=1}^{N} w_{il}\, y_{il}, \qquad
# w_{il} \propto \exp\!\Bigl(-\frac{\lVert x - y_i \rVert^2_{\mathrm{patch}(l)}}{2\sigma^2}\Bigr),
# ```
#
# so it can join the sleeve of one shirt to the collar of another. Its patch side at each $\sigma$ is
# the one of least denoising error on 64 held-out images, from 3 pixels to the whole image. The
# fourth is exact and belongs to a law of our own: a mixture of ten Gaussians with full covariances,
# fitted once to the images, from which training sets are then drawn. There the *true* map is known,
# and one can measure whether a network moves towards it. With $\lVert\cdot\rVert$ a root mean
# square over pixels, on [0, 255], the distance of two maps is {cite:p}`zhang2025pfd`
#
# ```{math}
# :label: eq:oracles-distance
# d(A, B) = \sqrt{\mathbb{E}_\epsilon\,\lVert f_A(\epsilon) - f_B(\epsilon)\rVert^2}.
# ```
#
# **One solver for all.** Networks and closed forms go through the same 18 Heun steps on the same
# noises. The released code samples networks with 18 Heun steps but the closed form with 18 plain
# Euler steps, so its comparison contains a solver error; it is measured below.
#
# The trivial predictor is the training image nearest to the starting noise, no equation solved. The
# null is the same score after the noises of one map were permuted.

# %% tags=["hide-input"]
bank, other, law = Bank(count=noises), seed + 1, laws.PREFIX + source


def cell(n, network=middle, half=0, seed=seed, **more) -> Cell:
    plain = dict(dataset=dataset, size=size, steps=steps, batch=batch, rate=rate, warmup=warmup,
                 objective=objective)
    return Cell(n=n, half=half, network=network, seed=seed, **(plain | more))


def closed(kind, n, half=0, **more) -> Closed:
    n = min(n, patch_images) if kind == "patches" else n
    return Closed(kind, n=n, half=half, **(dict(dataset=dataset, size=size) | more))


trials, kinds = {}, ("empirical", "gaussian", "patches")
for n in sizes:
    trials |= {(w, n): Trial(cell(n, w), bank) for w in widths}
    trials |= {("seed", n): Trial(cell(n, seed=other), bank),
               ("half", n): Trial(cell(n, half=1, seed=other), bank),
               ("euler", n): Trial(closed("empirical", n), bank, Plan("euler"))}
    trials |= {(kind, n): Trial(closed(kind, n), bank) for kind in kinds}
    trials |= {(f"{kind} half", n): Trial(closed(kind, n, half=1), bank) for kind in kinds[:2]}
of_law = dict(dataset=law, size=law_size)
trials["truth"] = Trial(Closed("mixture", **of_law), bank)
for n in law_sizes:
    trials["law", n] = Trial(cell(n, **of_law), bank)
    trials |= {(f"law {kind}", n): Trial(closed(kind, n, **of_law), bank) for kind in kinds[:2]}
bigger = dict(size=confirm_size, steps=confirm_steps)
for n in confirm_sizes:
    trials |= {("confirm", n, s): Trial(cell(n, seed=s, **bigger), bank, Plan(raw=True))
               for s in (seed, other)}
    trials |= {(f"confirm {kind}", n): Trial(closed(kind, n, size=confirm_size), bank)
               for kind in kinds}
trials["confirm", confirm_sizes[-1], "half"] = Trial(
    cell(confirm_sizes[-1], half=1, seed=other, **bigger), bank, Plan(raw=True))
maps = dict(zip(trials, run(list(trials.values()), c.store, device=c.device, workers=c.workers),
                strict=True))
trained = sum(isinstance(t.model, Cell) for t in trials.values())
print(f"{trained} networks and {len(trials) - trained} closed forms, {noises} noises each")

# %% tags=["remove-cell", "nbval-ignore-output"]
picture = {key: found.last for key, found in maps.items()}
first, last, top = sizes[0], sizes[-1], confirm_sizes[-1]
log_sizes, short = np.log2(sizes), {w: w.split("-")[-1] for w in widths}
noise = bank.noise((images.channels, size, size))
nearest = {n: scores.nearest_to_noise(noise, images.subset(n, half=0))[0] for n in sizes}


def agree(a, b):  # share of noises on which two maps agree, Wilson over noises
    return scores.mae_score(picture[a], picture[b])


def null(a, b):
    return scores.null_score(picture[a], picture[b], scores.mae_score, seed)


def rms(squared):
    return float(np.sqrt(squared.mean()))


def in_images(found, grid):  # log2 N to N; the ends are cut at the grid, a value beyond is censored
    if not np.isfinite(found.value):
        return f"fewer than {grid[0]:,}" if found.value < 0 else f"more than {grid[-1]:,}"
    return Interval(*(2 ** np.clip([found.value, found.low, found.high], *np.log2(grid)[[0, -1]])))


def centre(found):
    return getattr(found, "value", np.nan)


curves = {"empirical map": [agree((middle, n), ("empirical", n)) for n in sizes],
          "Gaussian map": [agree((middle, n), ("gaussian", n)) for n in sizes],
          "local-patch map": [agree((middle, n), ("patches", n)) for n in sizes],
          "network, other images": [agree((middle, n), ("half", n)) for n in sizes]}
nulls = [null((middle, n), ("half", n)) for n in sizes]
same = {key: np.stack([scores.agree(picture[middle, n], picture[key, n]) for n in sizes], axis=1)
        for key in ("empirical", "half")}
handover = in_images(crossing(log_sizes, same["half"] * 1.0 - same["empirical"], 0.0, seed=seed),
                     sizes)
loss = {w: maps[w, last].record["held_out"]["loss"] for w in widths}
weak = [w for w in widths if loss[w] > guard * min(loss.values())]
for name, key in (("empirical", "empirical map"), ("gaussian", "Gaussian map"),
                  ("patches", "local-patch map"), ("disjoint", "network, other images")):
    c.record(f"{name}_first", curves[key][0])
    c.record(f"{name}_last", curves[key][-1])
for entry in (
    ("n_first", first, ",d"), ("n_last", last, ",d"), ("noises_used", noises, ",d"),
    ("null_first", nulls[0], ".3f"), ("null_last", nulls[-1], ".3f"),
    ("handover_n", handover, ",.0f", "images"),
    ("undertrained", ", ".join(weak) or "none"),
):
    c.record(*entry)

# %% [markdown]
# ## Who explains the picture, and when
#
# {numref}`fig:oracles-which` holds one network against every predictor while its training set
# grows. The empirical map and the network trained on *other* images change places at $N$ =
# {glue:text}`handover_n`: below, the pictures are those of the training set, above, those of the
# distribution. {numref}`fig:oracles-plate` shows the pictures themselves.
#
# Three things surprise in the published run. The handover comes early, at about a hundred images.
# The curve of the empirical map does not fall to zero, as the paper's does, but turns. And of the two
# formulas the local one predicts more pictures than the global one, at both image sides.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-which", "caption": "Share of noises on which a trained network agrees with each predictor, against the number of its training images; top: the sweep, bottom: the confirmation at larger images (a network on other images at the largest N only). One network a point, {glue:text}`noises_used` noises, bands are 95 % Wilson intervals over noises. Null: permuted noises. Shading: where the empirical map or the network on other images explains more."}, "image": {"alt": "Two panels over the number of training images on a logarithmic axis. The curve of the empirical map starts highest, falls and turns up again; the curve of the network trained on other images starts near zero and is highest from about a hundred images on; the local-patch map lies between, the Gaussian map below it; the null stays near zero."}}
figure, axes = figures.panels(2, 1, height=3.7)
for name, values in curves.items():
    figures.sweep(axes[0, 0], sizes, values, name)
figures.sweep(axes[0, 0], sizes, nulls, "null: permuted noises")
for kind in kinds:
    figures.sweep(axes[1, 0], confirm_sizes, [agree(("confirm", n, seed), (f"confirm {kind}", n))
                                              for n in confirm_sizes], kind)
figures.sweep(axes[1, 0], [top], [agree(("confirm", top, seed), ("confirm", top, "half"))], "half")
figures.sweep(axes[1, 0], confirm_sizes, [null(("confirm", n, seed), (f"confirm {kinds[1]}", n))
                                          for n in confirm_sizes], "null")
for ax, grid, side in ((axes[0, 0], sizes, size), (axes[1, 0], confirm_sizes, confirm_size)):
    figures.size_axis(ax, grid)
    ax.set(ylabel=f"agreement, {side} x {side}", ylim=(-0.03, 1.03))
figures.mark_regimes(axes[0, 0], centre(handover), centre(handover), ("training set", "distribution"))
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
c.save_figure(figure, "which")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-plate", "caption": "Pictures from the same noises (columns, the first of the bank): the three training-free maps of the training images, the network trained on them, and a network of another seed trained on disjoint images, for the smallest and the largest training set."}, "image": {"alt": "Two blocks of five rows of small grey garments. In the upper block, few images, the network's row resembles the row of the empirical map and differs from the network on other images; in the lower block it resembles the network on other images and the patch and Gaussian rows."}}
rows = {f"{label}, N = {n:,}": picture[key, n][:columns] for n in (first, last) for label, key in
        (("empirical map", "empirical"), ("Gaussian map", "gaussian"), ("local-patch map", "patches"),
         ("network", middle), ("network on other images", "half"))}
plate = figures.plate(list(rows.values()), list(rows))
c.save_figure(plate, "plate")
plate

# %% [markdown]
# ## Few images: the empirical map
#
# {numref}`fig:oracles-empirical` is the paper's "theory" curve (its figure 4, left) with the controls
# that it lacks. Whoever copies training images must agree with the empirical map now and then, and
# the image nearest to the noise is a cheap guess at which one: does the network follow the
# *equation*? And does it follow the equation of *its* training set? The network trained on other
# images is compared with the same empirical map.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-empirical", "caption": "Share of noises on which networks of three widths agree with the empirical map of their training images, through the same solver; on which the middle width trained on other images agrees with that same map; and on which the middle width agrees with the training image nearest to the noise; one network a point, 95 % Wilson intervals over noises. Grey: the paper's width 128, read off its released figure (RP score, other data and sizes, mismatched solvers)."}, "image": {"alt": "Curves over the number of training images on a logarithmic axis. Those of the three widths fall to a trough at a few hundred images and rise again; the network on other images starts near zero and joins them; the nearest-to-noise baseline falls throughout; the paper's grey curve falls from one half to zero."}}
paper_sizes = [2**k for k in range(6, 16)]  # read off the released figure, to about .01
paper_theory = [.51, .46, .37, .31, .25, .17, .11, .04, .00, .00]  # width 128
follows = {w: [agree((w, n), ("empirical", n)) for n in sizes] for w in widths}
trivial = [scores.mae_score(picture[middle, n], nearest[n]) for n in sizes]
figure, axes = figures.panels(height=4.4)
for w in widths:
    figures.sweep(axes[0, 0], sizes, follows[w], short[w])
unseen = [agree(("half", n), ("empirical", n)) for n in sizes]
figures.sweep(axes[0, 0], sizes, unseen, f"{short[middle]}, other images")
figures.sweep(axes[0, 0], sizes, trivial, "nearest to the noise")
figures.sweep(axes[0, 0], sizes, [null((middle, n), ("empirical", n)) for n in sizes],
              "null: permuted noises")
figures.sweep(axes[0, 0], paper_sizes, [Interval(v, v - .01, v + .01) for v in paper_theory],
              "paper, 128", color="0.6")
axes[0, 0].set(ylabel="agreement with\nthe empirical map", ylim=(-0.03, 1.03))
figures.size_axis(axes[0, 0], sizes)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure

# %% tags=["hide-input", "nbval-ignore-output"]
beyond = {w: difference(scores.agree(picture[w, first], picture["empirical", first]),
                        scores.agree(picture[w, first], nearest[first]), seed=seed) for w in widths}
guess = {n: scores.mae_score(picture["empirical", n], nearest[n]) for n in (first, last)}
euler = [agree(("euler", n), ("empirical", n)) for n in sizes]
with_euler = agree((middle, first), ("euler", first))
copied = {n: wilson(int(scores.copies(picture[middle, n], images.subset(n, half=0)).sum()), noises)
          for n in (first, last)}
low = int(np.argmin([centre(i) for i in follows[middle]]))
for w in widths:
    print(f"{w} at N = {first}: empirical map {follows[w][0]}, above nearest-to-noise {beyond[w]}")
print(f"Euler-18 and Heun-18 empirical maps agree on {euler[0]} at N = {first}, {euler[-1]} at {last}")

# %% tags=["remove-cell", "nbval-ignore-output"]
for entry in (
    ("narrow_first", follows[widths[0]][0]), ("wide_first", follows[widths[-1]][0]),
    ("nearest_first", trivial[0]), ("beyond_nearest", beyond[middle]),
    ("guess_first", guess[first]), ("guess_last", guess[last]), ("euler_first", euler[0]),
    ("euler_last", euler[-1]), ("with_euler", with_euler), ("unseen_first", unseen[0]),
    ("unseen_last", unseen[-1]), ("copies_first", copied[first]),
    ("copies_last", copied[last], ".3f"), ("empirical_low", follows[middle][low]),
    ("empirical_low_n", sizes[low], ",d"),
):
    c.record(*entry)

# %% [markdown]
# At $N$ = {glue:text}`n_first` the three widths agree with the empirical map on
# {glue:text}`narrow_first`, {glue:text}`empirical_first` and {glue:text}`wide_first` of the noises,
# narrow to wide. The image nearest to the noise agrees with the middle width on
# {glue:text}`nearest_first`; the difference is {glue:text}`beyond_nearest`. That trivial guess is not
# a poor one: it *is* the picture of the empirical map on {glue:text}`guess_first` of the noises at
# the smallest and on {glue:text}`guess_last` at the largest $N$. The network trained on other images
# agrees with the same map on {glue:text}`unseen_first`: here the map of the *training set* is followed.
#
# That is not so at the right end. The curve is lowest, {glue:text}`empirical_low`, at $N$ =
# {glue:text}`empirical_low_n`, and ends at {glue:text}`empirical_last`, while the share of pictures that
# copy a training image goes from {glue:text}`copies_first` to {glue:text}`copies_last`. The network that
# has never seen these images ends at {glue:text}`unseen_last` as well. So many small pictures cover
# their distribution, and the exact map of the sample comes near the map of the law: agreement with the
# empirical map is evidence of memorising only where a network on other images does not share it. The
# paper's curve has no such control; it ends at zero, where none is needed.
#
# The solver matters to the equation as well. Solved with Euler's method on the same steps, as in the
# released code, the empirical map agrees with itself under Heun on {glue:text}`euler_first` of the
# noises at the smallest and {glue:text}`euler_last` at the largest $N$, and the network's agreement
# with it at the smallest $N$ becomes {glue:text}`with_euler`.
#
# ## Many images: the true map
#
# "The network learns the distribution" is a claim about a map that nobody knows for real images. For
# the mixture law it is known. {numref}`fig:oracles-truth` measures the distance
# {eq}`eq:oracles-distance` of networks trained on $N$ draws to the true map, and to the empirical map
# of those draws. The trivial competitor is the Gaussian map of the same draws.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-truth", "caption": "Distance of networks trained on draws of a known mixture law to the true map of that law and to the empirical map of their draws, and of the Gaussian map of the draws to the true map, in grey levels; one network a point, bands are 95 % bootstrap intervals over noises."}, "image": {"alt": "Curves over the number of training draws on a logarithmic axis. The distance of the network to the true map falls below its distance to the empirical map, which hardly changes, and below that of the Gaussian map; the empirical map approaches the true map more slowly."}}


def apart(a, b):  # squared distances, [noises, number of sizes]
    return np.stack([scores.squared_distance(picture[a, n], picture.get((b, n), picture["truth"]))
                     for n in law_sizes], axis=1)


to_truth, to_set = apart("law", "truth"), apart("law", "law empirical")
gauss_truth, set_truth = apart("law gaussian", "truth"), apart("law empirical", "truth")
shown = {"network to true map": to_truth, "network to empirical map": to_set,
         "Gaussian to true map": gauss_truth, "empirical to true map": set_truth}
figure, axes = figures.panels(height=4.4)
for name, squared in shown.items():
    figures.sweep(axes[0, 0], law_sizes, [bootstrap(v, rms, seed=seed) for v in squared.T], name)
axes[0, 0].set(ylabel="distance, grey levels")
axes[0, 0].set_ylim(bottom=0)
figures.size_axis(axes[0, 0], law_sizes, "draws of the law N")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure

# %% tags=["hide-input", "nbval-ignore-output"]
swap = in_images(crossing(np.log2(law_sizes), to_set - to_truth, 0.0, seed=seed), law_sizes)
ends = to_truth[:, [0, -1]]
part = bootstrap(ends, lambda v: rms(v[:, 1]) / rms(v[:, 0]), seed=seed)
nearer = difference(to_set[:, -1], to_truth[:, -1], rms, seed=seed)
permuted = scores.null_score(picture["law", law_sizes[-1]], picture["truth"],
                             scores.flow_distance, seed, rounds=2)
true_agreement = agree(("law", law_sizes[-1]), "truth")
print(f"distance to the true map, last over first: {part}; crossing at {swap} draws")
print(f"to the empirical map minus to the true map at N = {law_sizes[-1]}: {nearer}")

# %% tags=["remove-cell", "nbval-ignore-output"]
for entry in (
    ("law_first", law_sizes[0], ",d"), ("law_last", law_sizes[-1], ",d"),
    ("truth_first", bootstrap(to_truth[:, 0], rms, seed=seed), ".1f", "grey levels"),
    ("truth_last", bootstrap(to_truth[:, -1], rms, seed=seed), ".1f", "grey levels"),
    ("truth_part", part),
    ("set_first", bootstrap(to_set[:, 0], rms, seed=seed), ".1f", "grey levels"),
    ("set_last", bootstrap(to_set[:, -1], rms, seed=seed), ".1f", "grey levels"),
    ("truth_gaussian", bootstrap(gauss_truth[:, -1], rms, seed=seed), ".1f", "grey levels"),
    ("truth_null", permuted, ".1f", "grey levels"), ("truth_crossing", swap, ",.0f", "draws"),
    ("truth_agreement", true_agreement),
    ("truth_empirical", bootstrap(set_truth[:, -1], rms, seed=seed), ".1f", "grey levels"),
):
    c.record(*entry)

# %% [markdown]
# From $N$ = {glue:text}`law_first` to {glue:text}`law_last` the distance to the true map goes from
# {glue:text}`truth_first` to {glue:text}`truth_last` grey levels, the distance to the empirical map
# from {glue:text}`set_first` to {glue:text}`set_last`; they cross at {glue:text}`truth_crossing`
# draws. At the largest $N$ the network agrees with the true map on {glue:text}`truth_agreement` of
# the noises. The Gaussian map of the same draws stays {glue:text}`truth_gaussian` grey levels away
# from the truth, their empirical map {glue:text}`truth_empirical`, permuted noises
# {glue:text}`truth_null`: trained on the same draws, the network is a better estimate of the true map
# than the exact denoiser of those draws.
#
# ## No image in common
#
# Two networks of different seeds on disjoint sets of $N$ images share the distribution and nothing
# else. {numref}`fig:oracles-disjoint` counts their agreement and asks how far apart their pictures
# are, compared with the nearest image that the first network was trained on. Two exact maps are drawn
# beside them: perfect copiers would follow the empirical maps of the two sets, and whoever knows
# two moments the Gaussian maps.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-disjoint", "caption": "Top: share of noises on which pairs agree, against the number of training images: two networks on disjoint images, two seeds on the same images, and the empirical and Gaussian maps of the two disjoint sets; one pair a point, 95 % Wilson intervals over noises. Bottom: distance between the pictures of the two networks on disjoint images, and distance of the first one's pictures to their nearest training image; 95 % bootstrap intervals over noises."}, "image": {"alt": "Two panels over the number of training images on a logarithmic axis. Top: the agreement of networks on disjoint images rises to that of two seeds on the same images, that of the empirical maps of the two sets rises more slowly, that of their Gaussian maps reaches one early. Bottom: the distance between the two networks falls below the distance to the nearest training image."}}
pairs = {"disjoint images": [agree((middle, n), ("half", n)) for n in sizes],
         "same images, two seeds": [agree((middle, n), ("seed", n)) for n in sizes],
         "empirical maps": [agree(("empirical", n), ("empirical half", n)) for n in sizes],
         "Gaussian maps": [agree(("gaussian", n), ("gaussian half", n)) for n in sizes],
         "null: permuted noises": nulls}
cross = np.stack([scores.squared_distance(picture[middle, n], picture["half", n]) for n in sizes], 1)
to_train = np.stack([scores.nearest_two(picture[middle, n], images.subset(n, half=0))[0][:, 0]
                     for n in sizes], 1) / np.prod(images.train.shape[1:])
figure, axes = figures.panels(2, 1, height=3.5, share_x=True)
for name, values in pairs.items():
    figures.sweep(axes[0, 0], sizes, values, name)
for name, squared in (("to the other network", cross), ("to the nearest training image", to_train)):
    figures.sweep(axes[1, 0], sizes, [bootstrap(v, rms, seed=seed) for v in squared.T], name)
axes[0, 0].set(ylabel="agreement", ylim=(-0.03, 1.03))
axes[1, 0].set(ylabel="distance, grey levels")
axes[1, 0].set_ylim(bottom=0)
axes[1, 0].legend()
figures.size_axis(axes[1, 0], sizes)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure

# %% tags=["hide-input", "nbval-ignore-output"]
closer = difference(cross[:, -1], to_train[:, -1], rms, seed=seed)
predicted = agree(("half", last), ("gaussian", last))
raw = [maps["confirm", top, s].raw.astype(np.float64) for s in (seed, "half")]
confirm = {"disjoint": agree(("confirm", top, seed), ("confirm", top, "half")),
           "unclipped": float((127.5 * np.abs(raw[0] - raw[1]).mean((1, 2, 3)) < 15).mean()),
           "seeds": agree(("confirm", top, seed), ("confirm", top, other)),
           "seeds_first": agree(("confirm", confirm_sizes[0], seed),
                                ("confirm", confirm_sizes[0], other))}
print(f"disjoint halves: {pairs['disjoint images'][0]} at N = {first}, "
      f"{pairs['disjoint images'][-1]} at {last}; {confirm['disjoint']} at {confirm_size} x "
      f"{confirm_size}, N = {top}")
print(f"distance to the other network minus to the nearest training image at N = {last}: {closer}")

# %% tags=["remove-cell", "nbval-ignore-output"]
for name, value in confirm.items():
    c.record(f"confirm_{name}", value, ".2f")
for entry in (
    ("seeds_first", pairs["same images, two seeds"][0]),
    ("seeds_last", pairs["same images, two seeds"][-1]),
    ("copiers_last", pairs["empirical maps"][-1], ".3f"),
    ("moments_last", pairs["Gaussian maps"][-1]),
    ("cross_first", bootstrap(cross[:, 0], rms, seed=seed), ".1f", "grey levels"),
    ("cross_last", bootstrap(cross[:, -1], rms, seed=seed), ".1f", "grey levels"),
    ("nearest_train_first", bootstrap(to_train[:, 0], rms, seed=seed), ".1f", "grey levels"),
    ("nearest_train_last", bootstrap(to_train[:, -1], rms, seed=seed), ".1f", "grey levels"),
    ("closer", closer, ".1f", "grey levels"),
    ("cross_median", bootstrap(np.sqrt(cross[:, -1]), np.median, seed=seed), ".1f", "grey levels"),
    ("gaussian_other", predicted), ("confirm_n", top, ",d"),
    ("confirm_first_n", confirm_sizes[0], ",d"),
):
    c.record(*entry)

# %% [markdown]
# Networks on disjoint images agree on {glue:text}`disjoint_first` of the noises at the smallest $N$
# (null {glue:text}`null_first`) and on {glue:text}`disjoint_last` at the largest (null
# {glue:text}`null_last`), where two seeds on the *same* images reach {glue:text}`seeds_last`. At the
# largest $N$ their pictures are {glue:text}`cross_last` grey levels apart, and
# {glue:text}`nearest_train_last` from the nearest training image (a difference of
# {glue:text}`closer`; these are root mean squares, ruled by the few noises on which the two networks
# part altogether, and the median noise shows {glue:text}`cross_median`). The empirical maps of the
# two sets agree on {glue:text}`copiers_last`, the networks trained on them on more: training brings
# them nearer to a common map than the exact solutions for their own images are. At the larger image
# side and $N$ = {glue:text}`confirm_n` disjoint networks agree on
# {glue:text}`confirm_disjoint` ({glue:text}`confirm_unclipped` before clipping), two seeds on
# {glue:text}`confirm_seeds`.
#
# ## Mean, covariance and patches
#
# How much of that shared picture is linear? {numref}`fig:oracles-gaussian` counts agreement with the
# Gaussian map, and the share of the network's variation over noises that the Gaussian map explains,
# $1 - \sum \lVert f - f_{\mathrm{gauss}} \rVert^2 / \sum \lVert f - \bar f\, \rVert^2$. What is left
# is compared between the two networks on disjoint images: the *residual* correlation of their
# pictures once each pixel has been regressed on that pixel of the Gaussian map.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-gaussian", "caption": "What mean and covariance explain of one network's pictures, against the number of training images: agreement with the Gaussian map of the training images (95 % Wilson intervals over noises), share of the variation over noises that it explains, and the residual correlation with a network on disjoint images (95 % bootstrap intervals over noises) with its null. One network, or pair, a point."}, "image": {"alt": "Curves over the number of training images on a logarithmic axis: agreement with the Gaussian map, explained share and residual correlation; the null of the residual correlation stays at zero."}}
explained = [scores.explained_share(picture[middle, n], picture["half", n], picture["gaussian", n],
                                    seed=seed) for n in sizes]
figure, axes = figures.panels(height=4.4)
for name, values in (("agreement with the Gaussian map", curves["Gaussian map"]),
                     ("its null: permuted noises", [null((middle, n), ("gaussian", n)) for n in sizes]),
                     ("explained share", [e.share for e in explained]),
                     ("residual correlation", [e.residual for e in explained]),
                     ("its null: permuted noises", [Interval(*[e.null] * 3) for e in explained])):
    figures.sweep(axes[0, 0], sizes, values, name)
axes[0, 0].set(ylabel="share or correlation")
figures.size_axis(axes[0, 0], sizes)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=1)
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
rows, found = [], {}
for n in confirm_sizes:
    mine, partner = picture["confirm", n, seed], picture["confirm", n, other]
    for kind, label in zip(kinds, ("empirical", "Gaussian", "local patches"), strict=True):
        oracle = picture[f"confirm {kind}", n]
        found[kind, n] = scores.mae_score(mine, oracle)
        share = scores.explained_share(mine, partner, oracle, seed=seed).share
        rows.append([f"{n:,}", f"{label}, {min(n, patch_images):,} images" if kind == "patches" else
                     label, f"{found[kind, n]}", f"{share}",
                     f"{scores.flow_distance(mine, oracle, seed=seed):.1f}"])
    rows.append([f"{n:,}", "network, same images, other seed", f"{scores.mae_score(mine, partner)}", "–",
                 f"{scores.flow_distance(mine, partner, seed=seed):.1f}"])
header = ("N", "Predictor", "Agreement", "Explained share", "Distance, grey levels")
Markdown(verdicts.directive(verdicts.table(header, rows), "tab:oracles-confirm",
         f"Which predictor explains the picture of one network ({short[middle]}) at {confirm_size} x "
         f"{confirm_size}; 95 % Wilson (agreement) and bootstrap intervals over {noises:,} noises."))

# %% tags=["remove-cell", "nbval-ignore-output"]
gauss_null = null((middle, last), ("gaussian", last))
for kind in kinds:
    c.record(f"confirm_{kind}_first", found[kind, confirm_sizes[0]])
    c.record(f"confirm_{kind}", found[kind, top])
for entry in (
    ("gaussian_null", gauss_null, ".3f"), ("share_first", explained[0].share),
    ("share_last", explained[-1].share), ("residual_last", explained[-1].residual),
    ("residual_null", explained[-1].null, ".3f"),
    ("patches_used", f"{min(top, patch_images):,}"),
):
    c.record(*entry)

# %% [markdown]
# At $N$ = {glue:text}`n_last` the Gaussian map agrees with the network on {glue:text}`gaussian_last`
# of the noises (null {glue:text}`gaussian_null`) and explains {glue:text}`share_last` of its variation.
# The residuals of two networks without a common image correlate by {glue:text}`residual_last` (null
# {glue:text}`residual_null`). Both sides of the argument have a point: a linear map explains much of
# the variation {cite:p}`wang2026consistency` and fewer whole pictures, and it leaves a remainder on
# which two networks still agree. The local-patch map agrees on {glue:text}`patches_last`. At the larger image side
# ({numref}`tab:oracles-confirm`) the empirical, Gaussian and local-patch maps agree with the network
# on {glue:text}`confirm_empirical_first`, {glue:text}`confirm_gaussian_first` and
# {glue:text}`confirm_patches_first` of the noises at $N$ = {glue:text}`confirm_first_n`, and on
# {glue:text}`confirm_empirical`, {glue:text}`confirm_gaussian` and {glue:text}`confirm_patches` (from
# {glue:text}`patches_used` images) at $N$ = {glue:text}`confirm_n`.
#
# All these shares hang on a threshold of 15 grey levels; {numref}`fig:oracles-thresholds` moves it.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:oracles-thresholds", "caption": "Share of noises whose two pictures differ by less than a threshold, against the threshold, for one network and its predictors at the largest number of training images, and the empirical map at the smallest; bands are 95 % Wilson intervals over noises. The vertical line is the threshold used."}, "image": {"alt": "Rising curves. At the largest N the network on other images rises first, then the local-patch, the empirical and the Gaussian map; permuted noises rise last. At the smallest N the empirical map rises at once and then slowly."}}
grid = np.linspace(0, 60, 61)
compared = {f"{label}, N = {n:,}": (picture[middle, n], picture[key, n]) for label, key, n in (
    ("other images", "half", last), ("patches", "patches", last), ("Gaussian", "gaussian", last),
    ("empirical", "empirical", last), ("empirical", "empirical", first))}
compared["permuted noises"] = (picture[middle, last], np.roll(picture["half", last], 1, axis=0))
figures.threshold_curves({name: scores.threshold_curve(scores.mae(*two), grid, below=True)
                          for name, two in compared.items()}, grid,
                         xlabel="threshold on the mean absolute difference", threshold=15)

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
outcome = {w: verdicts.every(verdicts.at_least(follows[w][0], rule_c4),
                             verdicts.at_least(beyond[w], 0.0)) for w in widths}
c.verdict("C4", f"at N = {first}, for every width, agreement with the empirical map at least {rule_c4} "
          f"and above that with the image nearest to the noise (shown: {short[middle]})",
          value=follows[middle][0], paper="RP .48 to .51 at N = 64 (solvers mismatched)",
          null=null((middle, first), ("empirical", first)), baseline=trivial[0],
          some_settings=any(o["point_holds"] for o in outcome.values()),
          **verdicts.every(*outcome.values()))
unit = rms(ends[:, 0])
c.verdict("C5", f"distance to the true map falls from N = {law_sizes[0]} to {law_sizes[-1]:,} to at most "
          f"{rule_c5} of itself, and ends below the distance to the empirical map (shown: last over first; "
          "null and Gaussian map in the same unit)", value=part, null=permuted.value / unit,
          baseline=rms(gauss_truth[:, -1]) / unit,
          **verdicts.every(verdicts.at_most(part, rule_c5), verdicts.at_least(nearer, 0.0)))
halves = pairs["disjoint images"]
c.verdict("C6", f"disjoint halves agree on at least {rule_c6[0]} at N = {last:,} and at most {rule_c6[1]} at "
          f"N = {first}; at N = {last:,} their distance is below that to the nearest training image (shown: "
          f"agreement at {last:,}; baseline: Gaussian map of the other half)", value=halves[-1],
          null=nulls[-1], baseline=predicted,
          **verdicts.every(verdicts.at_least(halves[-1], rule_c6[0]),
                           verdicts.at_most(halves[0], rule_c6[1]), verdicts.at_most(closer, 0.0)))
c.verdict("C7", f"at N = {last:,} {rule_c7} (it explains {explained[-1].share} of the variation; residual "
          f"correlation {explained[-1].residual})",
          value=curves["Gaussian map"][-1], null=gauss_null, baseline=trivial[-1],
          **verdicts.at_least(curves["Gaussian map"][-1], gauss_null.high))
c.verdict_table("tab:oracles-verdicts", "Verdicts of this chapter, by rules fixed before the run.")

# %% tags=["hide-input"]
c.verdict_words()

# %% [markdown]
# **What would change our mind.** An image nearest to the noise that predicts the network as well as the
# empirical map does would refute C4: copying without the equation. Disjoint networks that stay further
# apart than their nearest training images would refute C6, and a residual correlation at its null would
# reduce the whole of it to mean and covariance. The rule for C4 looks at the smallest $N$ only; the
# paper's fall to zero at large $N$ is no part of it and is not seen here.
#
# **Limits.** Pictures are small, networks smaller, and training stops after a fixed number of steps, so
# the left end of every curve mixes few images with many passes over each ({ref}`chap:two-regimes`).
# By the held-out-loss guard (C18) the widths named undertrained at the largest $N$ are:
# {glue:text}`undertrained`. Intervals over noises describe these networks, not new ones: behind each
# point stands one network or one pair. The mixture law is fitted to the images but has ten smooth
# modes, so it is easier than they are. The local-patch map chooses its patch side on held-out images
# and sees at most {glue:text}`patches_used` training images at the largest $N$. The paper's numbers are
# RP scores under another descriptor.
#
# :::{admonition} Rerun this chapter
# :class: tip
# ```bash
# python -m helpers run 03 --profile quick                        # toy size, under a minute
# python -m helpers run 03 --profile quick -p seed 3 --out my_run # with other parameters
# python -m helpers run 03 --profile quick -p dataset my.npz --out my_run
# python -m helpers run 03 --dry-run                              # time, memory and disk of a full run
# python -m helpers run 03                                        # reuses the published measurements
# ```
# What each profile costs is measured on {doc}`/book/performance`.
# :::

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.provenance()
