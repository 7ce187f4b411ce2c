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
# (chap:shared-noise)=
# # What does sharing the noise give away?
#
# With a deterministic sampler the picture that a diffusion model makes of a noise is fixed by the law of its
# training data ({ref}`chap:two-regimes`): models that share nothing but that law agree noise by noise. So
# models of *two* laws disagree noise by noise, and whoever knows the noises can see which law a model has.
# The known attacks on generators draw fresh samples and count those that have a property
# {cite:p}`zhou2022property,hu2023prisampler`. This chapter pairs instead: it compares each picture with what
# shadow models make of the *same* noise. We know of no earlier attack that does.
#
# Worlds whose shares of footwear are {glue:text}`alpha_zero` and {glue:text}`alpha_one` are told apart from
# {glue:text}`headline_queries` pictures in {glue:text}`paired_headline` of the victims by pairing and in
# {glue:text}`counting_headline` by counting. To be right in 95 % of cases counting needs
# {glue:text}`needed_counting` queries, pairing {glue:text}`needed_paired`. **It rests on models of one world that
# agree.** These are perceptrons, two of which disagree on the property of {glue:text}`main_floor` of the noises; U-Nets, larger
# pictures and tables, with and without the effect, are the subject of {ref}`chap:other-victims`, the ratio itself and the
# audit of a model of one's own that of {ref}`chap:one-model`.

# %% tags=["parameters"]
ratio: float = 0.4  # share of footwear in world 1; world 0 has one half
others: list[float] = [0.3, 0.45, 0.48]  # further worlds
n: int = 2048  # training pictures of every model
sizes: list[int] = [64, 256, 1024, 2048, 4096]  # the same, from copying to generalising
rp_sizes: list[int] = [64, 256, 1024, 2048, 4096]  # of these, sizes whose RP chapter 2 measured
hidden: list[int] = [256, 256]  # units of the denoisers' hidden layers
steps: int = 2000  # Adam steps
batch: int = 64  # pictures a step
chunk: int = 8  # models trained together
victims: int = 80  # of each world, headline
fewer_victims: int = 40  # the same, further worlds, controls and mismatches
regime_victims: int = 24  # the same, training-set sizes, records drawn independently
shadows: int = 16  # of each world
fewer_shadows: int = 8  # the same, sizes and mismatches
noises: int = 1000  # noises of the bank
counts: list[int] = [1, 3, 10, 30, 100, 300, 1000]  # queries
draws: int = 20  # draws of noises for every count
again: int = 20  # resamples of the shadows behind the intervals
mismatches: list[str] = ["narrow", "deep", "vp", "flow", "short", "long", "half the records",
                         "twice the records", "faded", "mirrored", "no boots", "euler 36", "heun 9",
                         "dpmpp2m 18", "unet brief", "unet longer"]  # ways in which the attacker's shadows differ from the victims
unet: str = "unet-80k"  # network of the U-Net shadows
unets: dict[str, list[int]] = {"brief": [8, 600, 32], "longer": [8, 2000, 64]}  # their picture side, Adam steps, pictures a step
unet_shadows: int = 4  # of each world
unet_noises: int = 300  # noises asked where shadows are U-Nets
heun_steps: int = 18  # of Heun's solver, for victims and shadows
seed: int = 0  # of query draws, permutations, resampling
# Rules, fixed before the run
headline: int = 10  # queries at which claims are judged
rule_1: float = 0.15  # ours 1: the paired attack's accuracy less fresh counting's, at least
rule_2: float = 0.1  # ours 2: its queries for 95 % over those of fresh counting, at most
rule_3: float = 0.05  # ours 3: permuted noises exceed counting by at most this; equal worlds lie within it of 1/2
rule_4: float = 0.5  # ours 4: share of (accuracy - 1/2) that stays with shadows of other architecture, at least

# %% tags=["hide-input"]
from dataclasses import replace

import numpy as np
import seaborn

from helpers import chapter, figures, noise_games, noise_plan, noise_study, verdicts
from helpers.denoiser_stack import Small
from helpers.intervals import Interval

c = chapter.begin("13_shared_noise", globals())
if headline not in counts or headline > unet_noises or n not in sizes or {0.5, ratio} & {*others} or not others or {*rp_sizes} - {*sizes}:
    raise ValueError(f"need headline={headline} among counts={counts} and at most unet_noises={unet_noises}, n={n} "
                     f"among sizes={sizes}, rp_sizes={rp_sizes} too, and others={others} not empty and different from ratio={ratio} and .5")
study = noise_plan.Study(
    recipe=Small(hidden=tuple(hidden), steps=steps, batch=batch, chunk=chunk), n=n, ratio=ratio, victims=victims,
    fewer_victims=fewer_victims, regime_victims=regime_victims, shadows=shadows, fewer_shadows=fewer_shadows,
    counts=tuple(counts), noises=noises, draws=draws, seed=seed, again=again, heun_steps=heun_steps, unet=unet, unets=unets, unet_shadows=unet_shadows,
    unet_noises=unet_noises)

# %% [markdown]
# ## The attack
#
# A victim is a denoiser trained on $N$ records of which a share $\alpha$ has the property, footwear. The
# attacker knows the noises $\epsilon_k$ and the solver of {eq}`eq:pf-ode`, sees the pictures
# $f_v(\epsilon_k)$ and asks which of two worlds, $\alpha_0$ or $\alpha_1$, the records came from. He trains shadow
# models of both worlds, $A$ and $B$, on records of his own: victims' and attacker's pools share no record. For any distance $d$
#
# ```{math}
# :label: eq:paired-score
# s(v) = \operatorname{mean}_k \Bigl[\operatorname{mean}_{a \in A} d\bigl(f_v(\epsilon_k), f_a(\epsilon_k)\bigr)
#      - \operatorname{mean}_{b \in B} d\bigl(f_v(\epsilon_k), f_b(\epsilon_k)\bigr)\Bigr]
# ```
#
# is the KL attack of {cite:t}`suri2023dissecting` with predictions replaced by pictures; a large score speaks for
# world 1. Here $d$ is the mean absolute difference of grey levels (*pixels*), the distance of a classifier's hidden
# units (*descriptor*), disagreement on the property (*flips*) or $\mathrm{KL}$ of the classifier's
# probabilities. The *likelihood ratio* fits a Gaussian to the shadows of each world at every noise; *chosen* noises are
# those on which the attacker's own shadows differ most.
#
# **Why fewer queries.** Counting $m$ fresh samples compares shares whose sampling variance is $\alpha(1-\alpha)/m$.
# Moving a share $\Delta$ of the law must re-route at least a share $\Delta$ of the noises, and models of one law agree
# on all noises but a share $1-\mathrm{RP}$. Paired, only noises on which models differ make variance:
#
# ```{math}
# :label: eq:paired-z
# z = \frac{\Delta \sqrt{m}}{\sqrt{\Delta + 1 - \mathrm{RP}}}, \qquad \text{accuracy} = \Phi(z/2).
# ```
#
# **Rivals.** *Fresh counting* classifies fresh samples and counts, against the middle of the two ratios (*nominal*) or
# against shadows; *MMD* and a learnt *classifier* are two-sample tests against the shadows' fresh samples
# {cite:p}`gretton2012kernel,lopezpaz2017revisiting`; *denoising* asks under which world's shadows the victim's fresh samples are denoised
# with less loss. *Shared counting* counts pictures of the shared noises. All attacks get the same number of queries and, but for the nominal one, the same
# shadows and a threshold calibrated on held-out shadows, whose records are disjoint from those of the shadows
# that score them; every victim is judged by itself.
#
# **Controls.** The paired attack with the victim's noises in another order (*permuted*), and two equal worlds.

# %% tags=["hide-input"]
everything, mine, theirs = noise_plan.EVERY, study.mine, study.theirs
plan = {("main", ratio): study.game(replace(mine, count=victims), attacks=everything, plate=8)}
plan |= {("main", at): study.game(at=at) for at in others} | {("null", 0.5): study.game(at=0.5)}
plan |= {("iid", at): study.game(replace(mine, iid=True, count=regime_victims), at=at) for at in (ratio, others[-1])}
plan |= {("size", m): study.size(m) for m in sizes}
plan |= {("mismatch", name): study.mismatch(name) for name in ("none", *mismatches)}
plan |= {("small", 0): study.small_game()}  # for audits: seconds from nothing
found = dict(zip(plan, noise_games.play(list(plan.values()), c.store, device=c.device, workers=c.workers), strict=True))
rp = {m: noise_plan.agreement(m, c.store, device=c.device, workers=c.workers) for m in rp_sizes}
main, null = found["main", ratio], found["null", 0.5]
models = {replace(f, count=1, first=i) for one in plan.values() for f in one.families for i in f.numbers}
print(f"{len(plan)} games, {len(models):,} diffusion models")

# %% [markdown]
# ## A handful of queries
#
# {numref}`fig:noise-queries` is the result. With {glue:text}`headline_queries` queries pairing is right for
# {glue:text}`paired_headline`, the likelihood ratio for {glue:text}`ratio_headline`, chosen noises for
# {glue:text}`chosen_headline`; counting fresh samples for {glue:text}`counting_headline`, the best rival on fresh noise
# ({glue:text}`best_fresh`) for {glue:text}`best_fresh_headline`. Counting on the *shared* noises already gains
# ({glue:text}`shared_headline`): the noises' own luck is the same for victim and shadows and cancels. Permuting the noises
# leaves {glue:text}`permuted_headline`.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:noise-queries", "caption": "Accuracy against the number of queries, {glue:text}`alpha_zero` against {glue:text}`alpha_one` footwear, {glue:text}`victims_used` victims and {glue:text}`shadows_used` shadow models of each world, mean over {glue:text}`draws_used` draws of noises (chosen noises and all of them: one). Bands: 95 % bootstrap over victims, for pairing, counting and the likelihood ratio over shadows too; near accuracy 1 Wilson's lower end. Top: shared noises. Bottom: fresh noises and the permuted control."}, "image": {"alt": "Two panels of accuracy over the number of queries on a logarithmic axis. Top: paired attacks rise first, shared counting and flips follow, fresh counting comes last. Bottom: fresh counting, two-sample tests, denoising loss and permuted noises rise late."}}
figure, axes = figures.panels(2, 1, height=4.2, share_x=True, share_y=True)
for ax, shown in zip(axes[:, 0], (("paired pixels", "likelihood ratio", "chosen ratio", "paired flips", "shared counting",
                                   "fresh counting"),
                                  ("fresh counting", "fresh denoising", "fresh MMD", "fresh classifier",
                                   "permuted pixels")), strict=True):
    figures.curves(ax, counts, {name: noise_study.curve(main, name, seed) for name in shown}, ylabel="accuracy")
    ax.axhline(0.95, color="0.3", linewidth=1, linestyle="--", zorder=0)
    ax.set_ylim(0.4, 1.02)
    ax.legend(loc="lower right", ncols=2)
figures.log_axis(axes[1, 0], counts, "queries")
c.save_figure(figure, "queries")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
some = [m for m in counts if m in (1, headline, 100, counts[-1])]
rows = []
for name in everything:
    line, at = noise_study.curve(main, name, seed), counts.index(headline)
    need = noise_study.needed(main, name, seed=seed)
    rows.append([name, *(line[counts.index(m)] for m in some), f"{main.arrays[f'area/{name}'][at]:.2f}",
                 str(noise_study.leak(line[at], victims, 0.5, ratio)),
                 f"{need.value:.0f} [{need.low:.0f}, {need.high:.0f}]" if np.isfinite(need.value) else "not reached"])
c.table(("Attack", *(f"{m} queries" for m in some), f"AUC, {headline}", f"n_leaked, {headline}", "Queries for 95 %"), rows,
        "tab:noise-attacks", f"Every attack, 0.5 against {ratio:g}: accuracy by the calibrated rule (nominal: against the "
        f"middle of the two ratios), area under the ROC curve and records' worth at {headline} queries, and the number of queries at "
        "which the accuracy reaches 95 %.")

# %% [markdown]
# {numref}`fig:noise-plate` shows the noises that tell most, chosen by the attacker's shadows alone. In
# {numref}`tab:noise-ratios` the worlds move closer; the last column is the *ceiling* for records drawn
# independently: two binomial counts overlap, and not even the training set itself tells more. With such
# victims and {glue:text}`most_queries` queries the likelihood ratio reaches {glue:text}`iid_last` at {glue:text}`iid_ratio`, counting
# {glue:text}`iid_counting` and shared counting {glue:text}`iid_shared`, where the ceiling is {glue:text}`ceiling_last`.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:noise-plate", "caption": "Pictures of the eight most telling noises (columns): three victims of world 0 above, three of world 1 below. Chosen on the attacker's shadow models, none of which shares a record with these victims."}, "image": {"alt": "Six rows of eight small pictures. In most columns the garment changes between the upper three rows and the lower three."}}
pictures = main.arrays["plate"].reshape(2, -1, min(8, noises), 8, 8, 1)
figures_plate = figures.plate([row for world in pictures for row in world], [
    f"ratio {at:g}, victim {i}" for at in (0.5, ratio) for i in range(pictures.shape[1])])
c.save_figure(figures_plate, "telling")
figures_plate

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
rows = []
for kind, at in [("main", at) for at in sorted({ratio, *others})] + [("iid", ratio), ("iid", others[-1])]:
    here = found[kind, at]
    rows.append([f"{at:g}", "drawn" if kind == "iid" else "exact",
                 *(noise_study.accuracy(here, name, m, seed) for m in (headline, counts[-1])
                   for name in ("fresh counting", "shared counting", "paired pixels", "likelihood ratio")), f"{noise_study.ceiling(n, 0.5, at):.2f}" if kind == "iid" else "1"])
c.table(("Ratio", "Records", *(f"{name}, {m}" for m in (headline, counts[-1]) for name in ("counting", "shared counting", "paired", "LR")),
         "Ceiling"), rows, "tab:noise-ratios", f"Accuracy against world 0.5 for exact ratios and for records drawn independently "
        f"(the attacker's shadows are exact), {headline} and {counts[-1]} queries; 95 % intervals. {victims} victims of each "
        f"world at {ratio:g} exact, {fewer_victims} at the other exact ratios, {regime_victims} drawn.")

# %% [markdown]
# ## From copying to generalising
#
# A model that copies its few records answers a noise with one of them, and victim and shadows have none in common. {numref}`fig:noise-sizes` sets
# the leak beside the floor, the share of noises on which models of *one* world disagree about the property. From
# {glue:text}`size_first` to {glue:text}`size_last` records the floor goes from {glue:text}`floor_first` to
# {glue:text}`floor_last` and the paired accuracy from {glue:text}`paired_first` to {glue:text}`paired_last`; counting goes from
# {glue:text}`counting_first` to {glue:text}`counting_last`. {numref}`tab:noise-predicted` tests {eq}`eq:paired-z` with
# {glue:text}`rp_source` and no fitted constant, on paired flips: predicted and measured accuracies differ
# by {glue:text}`prediction_error` on average, by {glue:text}`prediction_worst` at most. It need not hold: RP belongs to other
# networks, and it counts every difference that shows, not only those in the property. With the floor that was measured here in the place of
# $1 - \mathrm{RP}$, which is no prediction from chapter 2 any more, the error is {glue:text}`floor_error`.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:noise-sizes", "caption": "Top: records' worth of an answer (n_leaked) with {glue:text}`headline_queries` queries against the number of training pictures; bands are 95 %. Bottom: share of noises on which a victim and a shadow disagree on the property, in the same and in different worlds, and models' disagreement in chapter 2 (1 - RP, on whole pictures); logarithmic. {glue:text}`regime_victims_used` victims and {glue:text}`fewer_shadows_used` shadows of each world."}, "image": {"alt": "Two panels over the number of training pictures. Top: n_leaked of the paired attack rises with it, that of counting stays low. Bottom: disagreement within a world falls while disagreement across worlds stays above it."}}
by_size = [found["size", m] for m in sizes]
leaks = {name: [noise_study.leak(noise_study.accuracy(one, name, headline, seed), regime_victims, 0.5, ratio)
                for one in by_size] for name in ("fresh counting", "shared counting", "paired pixels", "likelihood ratio")}
figure, axes = figures.panels(2, 1, height=3.8, share_x=True)
figures.curves(axes[0, 0], sizes, leaks, ylabel="n_leaked (records)")
floors = {"same world": [one.arrays["flips"][0] for one in by_size], "across": [one.arrays["flips"][1] for one in by_size]}
figures.curves(axes[1, 0], sizes, {name: [Interval(float(v), float("nan"), float("nan")) for v in line]
                                   for name, line in floors.items()}, ylabel="disagreement")
if rp:
    figures.sweep(axes[1, 0], list(rp), [Interval(1 - r.value, 1 - r.high, 1 - r.low) for r in rp.values()], "1 - RP, chapter 2")
axes[1, 0].set_yscale("log")
axes[1, 0].autoscale(axis="y")
for ax in axes[:, 0]:
    ax.legend()
figures.size_axis(axes[1, 0], sizes, "training pictures N")
c.save_figure(figure, "sizes")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
rows, errors, nearer = [], [], []
for m, one in zip(sizes, by_size, strict=True):
    agreement = rp[m].value if m in rp else 1 - float(one.arrays["flips"][0])
    for k in (k for k in counts if k in (headline, 100)):
        said, closer = (noise_study.predicted(0.5, ratio, k, part) for part in (agreement, 1 - float(one.arrays["flips"][0])))
        flips, pixels = (noise_study.accuracy(one, name, k, seed) for name in ("paired flips", "paired pixels"))
        errors.append(abs(said - flips.value))
        nearer.append(abs(closer - flips.value))
        rows.append([f"{m:,}", str(k), f"{agreement:.2f}", f"{said:.2f}", f"{closer:.2f}", flips, pixels])
c.table(("N", "Queries", "RP", "By RP", "By the floor", "Paired flips", "Paired pixels"), rows, "tab:noise-predicted",
        "Accuracy predicted from the agreement of models of one world (chapter 2's RP at the same N where it was measured, else one minus the "
        "disagreement on the property here) and measured, 95 % intervals over victims, of pixels over shadows too.")

# %% [markdown]
# ## Shadows that are not like the victim
#
# The attacker seldom knows how a victim was trained. {numref}`fig:noise-mismatch` has one row for each thing that he
# gets wrong. Of (accuracy − ½) at {glue:text}`headline_queries` queries {glue:text}`architecture_most` stays with the most fortunate
# other architecture and {glue:text}`architecture_least` with the worst, {glue:text}`architecture_worst`; the worst row of all is
# {glue:text}`worst_mismatch` with {glue:text}`worst_mismatch_accuracy`. U-Net shadows are also fewer, so their rows mix two
# differences.
#
# Accuracy asks two things of shadows: that they tell the worlds' pictures apart, and that a threshold learnt on them suits victims of
# another kind. {numref}`tab:noise-mismatch` leaves the threshold out. The area under the ROC curve is {glue:text}`area_none` without a mismatch,
# {glue:text}`area_worst` for {glue:text}`worst_mismatch` and {glue:text}`area_architecture` for {glue:text}`architecture_worst`. Where it stays
# high while accuracy falls, the scores still order the victims by world, and an attacker who has a few models of known ratio of the victims' kind could set
# the threshold anew: low accuracy is no protection.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:noise-mismatch", "caption": "Accuracy when shadows differ from victims, {glue:text}`alpha_zero` against {glue:text}`alpha_one`, {glue:text}`fewer_victims_used` victims and {glue:text}`fewer_shadows_used` shadows of each world ({glue:text}`unet_shadows_used` for U-Nets). Rows: none; half the width; one layer more; training objectives VP and flow matching; half and twice the steps; half and twice the records; paler, mirrored pictures and no ankle boots in the attacker's pool; other solvers and step counts; U-Net shadows of perceptron victims, trained briefly and longer. Below each: 95 % bootstrap over victims and shadows."}, "image": {"alt": "Heat map with one row for each mismatch and columns for counting, paired pixels and likelihood ratio at two numbers of queries; accuracies are written in the cells."}}
order, at = ["none", *mismatches], [m for m in counts if m in (headline, 100) and m <= unet_noises]
columns = [(name, m) for name in ("fresh counting", "paired pixels", "likelihood ratio") for m in at]
cells = [[noise_study.accuracy(found["mismatch", row], name, m, seed) for name, m in columns] for row in order]
told = [[f"{part.value:.2f}\n{part.low:.2f} to {part.high:.2f}" for part in line] for line in cells]
figure, axes = figures.panels(height=1.6 + 0.55 * len(order))
seaborn.heatmap([[part.value for part in line] for line in cells], ax=axes[0, 0], vmin=0.5, vmax=1, cmap="viridis",
                annot=np.array(told), fmt="", annot_kws={"fontsize": 9}, cbar=False,
                xticklabels=[f"{name.split()[-1]}\n{m}" for name, m in columns], yticklabels=order)
c.save_figure(figure, "mismatch")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.table(("Shadows", *(f"{name.split()[-1]}, {m}" for name, m in columns)),
        [[row, *(noise_study.area(found["mismatch", row], name, m) for name, m in columns)] for row in order], "tab:noise-mismatch",
        "The same games, area under the ROC curve: what a threshold that suits the victims could make of the same scores. 95 % intervals over victims "
        "by the standard error of Hanley and McNeil.")

# %% tags=["remove-cell", "nbval-ignore-output"]
def right(one, name, m=headline):
    return noise_study.accuracy(one, name, m, seed)


none = found["mismatch", "none"]
kept = {name: noise_study.kept(found["mismatch", name], none, "paired pixels", headline, seed)
        for name in mismatches if name in ("narrow", "deep") or name.startswith("unet")}
least = min(kept, key=lambda name: kept[name].value, default=None)
fresh = [name for name in everything if name.startswith("fresh") and name not in ("fresh nominal", "fresh counting")]
best = max(fresh, key=lambda name: right(main, name).value)
pick = ("paired pixels", "fresh counting")
gain = noise_study.gap(main, *pick, headline, seed)
fewer = noise_study.ratio_of_queries(main, *pick, seed=seed)
loose = noise_study.gap(main, "permuted pixels", "fresh counting", headline, seed)
even = right(null, "paired pixels")
worst = min(mismatches, key=lambda name: right(found["mismatch", name], "paired pixels").value, default=None)
c.record_all(".2f", paired_headline=right(main, pick[0]), counting_headline=right(main, pick[1]), gain_headline=gain,
             ratio_headline=right(main, "likelihood ratio"), chosen_headline=right(main, "chosen ratio"),
             best_fresh_headline=right(main, best), shared_headline=right(main, "shared counting"),
             permuted_headline=right(main, "permuted pixels"), equal_worlds=even, prediction_error=float(np.mean(errors)),
             prediction_worst=float(np.max(errors)), floor_error=float(np.mean(nearer)), iid_last=right(found["iid", others[-1]], "likelihood ratio", counts[-1]),
             iid_counting=right(found["iid", others[-1]], pick[1], counts[-1]), iid_shared=right(found["iid", others[-1]], "shared counting", counts[-1]),
             ceiling_last=noise_study.ceiling(n, 0.5, others[-1]), paired_first=right(by_size[0], pick[0]),
             paired_last=right(by_size[-1], pick[0]), counting_first=right(by_size[0], pick[1]),
             counting_last=right(by_size[-1], pick[1]), architecture_least=kept[least] if kept else "–",
             architecture_most=max(kept.values(), key=lambda part: part.value, default="–"),
             worst_mismatch_accuracy=right(found["mismatch", worst], "paired pixels") if worst else "–")
c.record_all(".3f", main_floor=float(main.arrays["flips"][0]), floor_first=float(floors["same world"][0]), floor_last=float(floors["same world"][-1]))
for name, attack in (("needed_paired", pick[0]), ("needed_counting", pick[1])):
    need = noise_study.needed(main, attack, seed=seed)
    c.record(name, f"more than {counts[-1]:,}" if not np.isfinite(need.value) else need, ".0f", "queries")
c.record_all(",d", headline_queries=headline, most_queries=counts[-1], victims_used=victims, fewer_victims_used=fewer_victims, shadows_used=shadows,
             fewer_shadows_used=fewer_shadows, unet_shadows_used=unet_shadows,
             regime_victims_used=regime_victims, draws_used=draws, size_first=sizes[0], size_last=sizes[-1])
c.record_all("g", alpha_zero=0.5, alpha_one=ratio, iid_ratio=others[-1])
c.record_all(".2f", area_none=noise_study.area(none, pick[0], headline),
             area_worst=noise_study.area(found["mismatch", worst], pick[0], headline) if worst else "–",
             area_architecture=noise_study.area(found["mismatch", least], pick[0], headline) if kept else "–")
c.record_all(best_fresh=best, worst_mismatch=worst or "none", architecture_worst=least or "none")

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
half = {"point_holds": abs(even.value - 0.5) <= rule_3 and even.low <= 0.5 <= even.high,
        "interval_holds": 0.5 - rule_3 <= even.low <= 0.5 <= even.high <= 0.5 + rule_3,
        "interval_wrong": even.low > 0.5 or even.high < 0.5}
c.verdict("ours 1", f"at {headline} queries the paired attack's accuracy exceeds fresh counting's by at least {rule_1} "
          f"(0.5 against {ratio:g}; null: permuted noises less counting)", value=gain, null=loose,
          baseline=noise_study.gap(main, best, "fresh counting", headline, seed), **verdicts.at_least(gain, rule_1))
c.verdict("ours 2", f"its queries for 95 % are at most {rule_2} of those of fresh counting", value=fewer, fmt=".3f",
          baseline=noise_study.ratio_of_queries(main, "shared counting", "fresh counting", seed=seed),
          **verdicts.at_most(fewer, rule_2))
c.verdict("ours 3", f"permuted noises exceed counting by at most {rule_3} at {headline} queries, and equal worlds give one half "
          f"within {rule_3} (null: equal worlds)", value=loose, null=even,
          **verdicts.every(verdicts.at_most(loose, rule_3), half))
if kept:
    c.verdict("ours 4", f"shadows of another architecture keep at least {rule_4} of (accuracy - 1/2) at {headline} queries, every one of "
              f"{', '.join(kept)} (shown: {least})", value=kept[least], some_settings=any(part.value >= rule_4 for part in kept.values()),
              **verdicts.every(*(verdicts.at_least(part, rule_4) for part in kept.values())))
c.verdict_table("tab:noise-verdicts", "Verdicts of this chapter, by rules fixed before the run (ours 4: a row was added later, see Limits).")

# %% tags=["hide-input"]
c.verdict_words()

# %% [markdown]
# **What would change our mind.** Permuted noises that did as well as paired ones would mean that the gain is not in the pairing; equal worlds
# that could be told apart would mean a flaw in the split. Larger pictures or networks on which models of one world
# disagree as much as models of two would confine the result to this scale.
#
# **Limits.** The brief U-Nets came first; after their result had been seen, the row *unet longer* was added to ours 4, run once at a
# length that the time allowed. For equal worlds ours 3 first asked that the interval hold one half; that it lie within the margin was added.
# One property of one image set carries the grids, and victims are perceptrons of
# {glue:text}`hidden_used` units ({ref}`chap:other-victims` has others). The attacker knows the solver (or one close to it) and the
# noises, and has records of the same kind. Warm starts from a common network, conditional models and photographs are not
# tested. What can be done against it is the subject of {ref}`chap:hiding-noise`.
#
# :::{admonition} Rerun this chapter
# :class: tip
# ```bash
# python -m helpers run 13 --profile quick                              # toy size, half a minute
# python -m helpers run 13 -p ratio 0.45 -p others "[0.3]" --out my_run  # another pair of worlds
# python -m helpers run 15 16                                           # other victims, audits
# ```
# What each profile costs is measured on {doc}`/book/performance`.
# :::

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.record("rp_source", "RP of chapter 2 (U-Nets, disjoint halves)" if rp else "one minus the floor (RP of chapter 2 was not asked)")
c.record("hidden_used", " and ".join(map(str, hidden)))
c.provenance()
