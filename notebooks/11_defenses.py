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
# (chap:defenses)=
# # What stops it, against an adversary who knows the defence?
#
# {cite:t}`suri2023dissecting` find that noise does not stop distribution inference: on census records
# (82.5 % accuracy undefended) a victim trained with 20 % of its labels flipped is still judged rightly in
# 78.9 % of cases; DP-SGD at $\varepsilon = 1$ leaves 69.3 %, and 86.4 % once the adversary's shadows are
# trained with DP-SGD as well. Re-sampling to a public ratio of one half looks like a cure, 56.7 %
# (under-sampling) and 51.9 % (over-sampling), until the shadows are re-sampled too: 80.4 % and 70.2 %.
# For label noise and adversarial training no shadows with the defence are reported, and feature noise is
# an empty file of the release.
#
# Here every defence meets both adversaries, the one who does not know it and the *adaptive* one whose
# shadows do the same. Undefended, {glue:text}`none_accuracy` of the victims are judged rightly, averaged over
# {glue:text}`ratio_count` ratios. Against adaptive shadows label noise leaves {glue:text}`labels_left` of what
# exceeds a coin, DP-SGD {glue:text}`dp_left`, adversarial training {glue:text}`pgd_left`. Re-sampled victims
# are judged rightly on {glue:text}`under_only` (under), {glue:text}`over_only` (over) by an adversary who does
# not know, on {glue:text}`under_both` and {glue:text}`over_both` by one who does; re-sampling to a *fixed size*
# on {glue:text}`fixed_both`.

# %% tags=["parameters"]
table: str = "acs_ma"  # built-in table (acs_ma, adult, fashion16), or a path to your own .csv / .parquet
property: str = "sex"  # whose share the adversary wants to know; a built-in name or column=value
label: str = ""  # the victims' task, spelt the same way; empty: the table's own
n: int = 8000  # training records of each victim and shadow
victims: int = 100  # victims of each world
shadows: int = 50  # shadows of each world
alpha0: float = 0.5  # ratio of world 0
ratios: list[float] = [0.1, 0.3, 0.7, 0.9]  # ratios of world 1; 0 and 1 cannot be re-sampled
probes: int = 1000  # records of each of the two probe sets
arch: str = "mlp-32-16"  # victims and shadows
epochs: int = 20  # passes over the records (Adam, weight decay 1e-4)
batch: int = 200  # records a step
rate: float = 1e-3  # learning rate
chunk: int = 50  # models trained together
flips: list[float] = [0.2, 0.4]  # label noise: share of labels flipped; the first is the rule's
blurs: list[float] = [0.5, 2.0]  # feature noise: standard deviation, features being standardised
epsilons: list[float] = [1.0, 8.0, 0.12]  # DP-SGD; the first is the rule's, 1 and 0.12 are the paper's
clip: float = 1.0  # DP-SGD: norm to which a record's gradient is clipped (delta is 1/n)
radii: list[float] = [0.1]  # adversarial training: L-infinity radius; the first is the rule's
mixed: float = 0.3  # over-sampling with augmentation: probability that a column is another record's
kept: float = 0.2  # size-fixed re-sampling: share of the n records kept, whatever the ratio
unlearn_ratio: float = 0.1  # property unlearning: ratio of world 1
readers: int = 200  # shadows of each world behind each weight-reading network, and behind KL beside it
reader_epochs: int = 200  # their passes over the shadows
member_ratios: list[float] = [0.1, 0.3, 0.7]  # membership: ratios of the re-sampled victims
member_victims: int = 50  # victims of each of these ratios
member_shadows: int = 100  # shadows in all
member_known: int = 500  # records of each group that the adversary knows every victim to have had
seed: int = 0  # seed of probe records, folds, bootstraps (victims and shadows are fixed)
# Rules, fixed before the run
rule_c3: float = 0.5  # DI-C3: label noise, DP-SGD and adversarial training (first strength) each leave
#                       at least this share of (accuracy - .5) against adaptive shadows
rule_c4: float = 0.1  # DI-C4: re-sampling (under, over) of victims alone: accuracy within this of .5

# %% tags=["hide-input"]
import warnings
from dataclasses import dataclass, replace

import numpy as np

from helpers import chapter, figures, groups, membership, summaries, unlearning, verdicts
from helpers.defenses import Defense
from helpers.inference import Data, Game, Group, check, play
from helpers.intervals import bootstrap
from helpers.leakage import leak, n_leaked_regression, regression_leak
from helpers.shadow import Recipe
from helpers.shadow_dp import noise_for

c = chapter.begin("11_defenses", globals())
data = Data(table, property, label or None)
plain = Recipe(arch=arch, epochs=epochs, batch=batch, rate=rate, chunk=chunk)
if not ratios or min(map(len, (flips, blurs, epsilons, radii))) < 1 or not all(0 < r < 1 for r in ratios):
    raise ValueError(f"need at least one of flips={flips}, blurs={blurs}, epsilons={epsilons}, radii={radii} and "
                     f"of ratios={ratios}, which lie strictly between 0 and 1 (or nothing can be re-sampled)")
source = groups.table(data)
print(f"{source.name}: {len(source.label):,} records, task {source.label_name}, property {source.property_name}; "
      f"victims and shadows of {n:,} records; world 0 has a ratio of {alpha0:g}, world 1 of "
      f"{', '.join(f'{r:g}' for r in ratios)}")

# %% [markdown]
# ## The game and the two adversaries
#
# A trainer draws $n$ records, of which a share $\alpha_b$ has the property ($b$ is a coin,
# $\alpha_0$ = {glue:text}`alpha0_used`), applies the defence $T$ and trains a victim. The adversary has
# records of its own, trains {glue:text}`shadows_used` shadows of each world, and asks all models for their
# outputs on two sets of {glue:text}`probes_used` probe records. Its score is the KL attack's
# {cite:p}`suri2023dissecting`, with $p_m(x)$ the probability that model $m$ gives to the positive class,
#
# ```{math}
# :label: eq:defenses-score
# s(v) = \frac{1}{k^2} \sum_{i,j} \bigl[ \mathrm{KL}(p_{A_i} \Vert\, p_v) - \mathrm{KL}(p_{B_j} \Vert\, p_v) \bigr],
# ```
#
# averaged over the probe records, for shadows $A_i$ of world 0 and $B_j$ of world 1. Every victim is judged by
# itself, by the cut that best splits held-out shadows, which draw from the other half of the adversary's records
# ({ref}`chap:attacks`). Two adversaries play:
#
# - *victims only*: victims are trained on $T$(records), shadows on plain records, as if nothing were known;
# - *shadows too*: the adversary knows $T$ and its strength, so its shadows are trained on $T$(records) as well.
#
# A defence is only as good as its second number: what it withholds from the first adversary is merely a mismatch.
#
# | Defence | $T$ |
# | --- | --- |
# | label noise | a share of the labels is flipped |
# | feature noise | normal noise on every feature of every record |
# | DP-SGD {cite:p}`abadi2016dpsgd` | gradients clipped and blurred; $\varepsilon$ by the Rényi accountant of Opacus, $\delta = 1/n$ |
# | adversarial training {cite:p}`madry2018pgd` | records replaced by worst ones within an $L_\infty$ ball (7 steps) |
# | under-sampling | the larger group is cut to the smaller one's size |
# | over-sampling | the smaller group is repeated up to the larger one's size |
# | over-sampling, augmented | the same, but every repetition is a changed copy |
# | re-sampling to a fixed size | as under-sampling, then both groups are cut to the same size at every ratio |
#
# Re-sampling targets one half, so at $\alpha_0$ = .5 under- and over-sampling find nothing to do, as in the
# paper, and the fixed size still cuts the records to {glue:text}`kept_percent`. Under-sampling leaves
# $2 \min(\alpha, 1-\alpha)\, n$ records and over-sampling $2 \max(\alpha, 1-\alpha)\, n$: the ratio is gone from
# the composition and sits in the size. The fixed size removes it there too.

# %% tags=["hide-input"]
@dataclass(frozen=True)
class Arm:
    """A defence on the records, a recipe that defends by itself, or neither."""

    family: str
    recipe: Recipe = plain
    defense: Defense = Defense()


def private(target):
    """The recipe whose DP-SGD has this epsilon."""
    with warnings.catch_warnings():  # at small epsilon the accountant's bound is loose: more noise than needed
        warnings.simplefilter("ignore", UserWarning)
        return replace(plain, dp_noise=round(noise_for(target, replace(plain, dp_clip=clip), n, 1 / n), 3),
                       dp_clip=clip)


NONE, FIXED = Arm("none"), "fixed size"
arms = {"none": NONE}
arms |= {f"label noise {x:.0%}": Arm("label noise", defense=Defense("label noise", x)) for x in flips}
arms |= {f"feature noise {x:g}": Arm("feature noise", defense=Defense("feature noise", x)) for x in blurs}
arms |= {f"DP-SGD, epsilon {x:g}": Arm("DP-SGD", private(x)) for x in epsilons}
arms |= {f"adversarial {x:g}": Arm("adversarial", replace(plain, pgd_epsilon=x)) for x in radii}
arms |= {"under-sampling": Arm("re-sampling", defense=Defense("under")),
         "over-sampling": Arm("re-sampling", defense=Defense("over")),
         "over, augmented": Arm("re-sampling", defense=Defense("over augmented", mixed)),
         FIXED: Arm("re-sampling", defense=Defense("fixed", kept))}
ruled = {"labels": f"label noise {flips[0]:.0%}", "dp": f"DP-SGD, epsilon {epsilons[0]:g}",
         "pgd": f"adversarial {radii[0]:g}"}
SIDES = {"only": "victims only", "both": "shadows too"}


def game(ratio, mine=NONE, theirs=NONE) -> Game:
    first, second = (Group(data, party, ratio, n, count, arm.recipe, defense=arm.defense)
                     for party, count, arm in ((0, victims, mine), (1, shadows, theirs)))
    return Game(first, second, alpha0, probes, seed=seed)


games = {(name, side, ratio): game(ratio, arm, arm if side == "both" else NONE)
         for name, arm in arms.items() for side in SIDES for ratio in ratios}
games["null"] = game(alpha0)
unique = list(dict.fromkeys(games.values()))
check(unique)
noises = [(x, arms[f"DP-SGD, epsilon {x:g}"].recipe.dp_noise) for x in epsilons]
print(f"{len(arms) - 1} defences, {len(unique)} games of {victims} + {victims} victims against {shadows} + {shadows} "
      "shadows; DP-SGD's noise multipliers: " + ", ".join(f"{s:g} (epsilon {x:g})" for x, s in noises))

# %% tags=["hide-input", "nbval-ignore-output"]
found = dict(zip(unique, play(unique, c.store, device=c.device, workers=c.workers), strict=True))
played = {key: found[one] for key, one in games.items()}


def games_of(name, side="both"):
    return [played[name, side, r].found["kl"] for r in ratios]


def accuracy(name, side="both", rule=None):
    return summaries.mean_accuracy(games_of(name, side), rule, seed=seed)


def left(name):
    """Share of (accuracy - .5) left to adaptive shadows; victims of the same number drew the same records."""
    def share(v):
        base = v[:, 1].mean() - 0.5
        return (v[:, 0].mean() - 0.5) / base if base > 0 else np.nan
    right = [np.concatenate([j.correct[j.rule] for j in games_of(arm)]).T.astype(float) for arm in (name, "none")]
    return bootstrap(np.stack(right, 1), share, seed=seed)


def utility(name, what):
    """Task accuracy, or a gap between the groups, of the victims of all worlds."""
    parts = [played[name, "only", r].arrays[f"utility/{what}"] for r in ratios]
    values = np.concatenate(parts)  # [2 x ratios, victims, ...]
    return bootstrap((values if what == "accuracy" else np.abs(np.diff(values, axis=2)[..., 0])).T, seed=seed)


only, both = ({name: accuracy(name, side) for name in arms} for side in SIDES)
shares = {name: left(name) for name in arms}
judged_null = played["null"].found["kl"].accuracy()

# %% [markdown]
# ## Both adversaries
#
# {numref}`fig:defenses-both` gives the two accuracies of every defence, averaged over the ratios, and
# {numref}`tab:defenses-both` the share of the undefended leak that adaptive shadows still read,
# $(\omega - \tfrac12) / (\omega_{\text{none}} - \tfrac12)$. Equal worlds (both at $\alpha_0$, different models)
# give {glue:text}`null_accuracy`.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:defenses-both", "caption": "Accuracy of the KL attack with a threshold for each victim, mean over the ratios of world 1, by defence: shadows undefended (open) and defended like the victims (filled). {glue:text}`victims_used` victims and {glue:text}`shadows_used` shadows of each world at every ratio; bars are 95 % bootstrap intervals over victims. Dashed: a coin; dotted: no defence."}, "image": {"alt": "Horizontal chart, one line for each defence: an open marker for the accuracy of the attack when only the victims are defended and a filled one when the shadows are defended too, with bars, between 0 and 1."}}
figure, axes = figures.panels(height=0.42 * len(arms) + 1.4)
ax, at = axes[0, 0], np.arange(len(arms))[::-1]
for side, values, shift in (("only", only, 0.13), ("both", both, -0.13)):
    middle, low, high = np.array([(v.value, v.low, v.high) for v in values.values()]).T
    ax.errorbar(middle, at + shift, xerr=np.maximum([middle - low, high - middle], 0), fmt=figures.MARKERS[shift < 0],
                color=figures.PALETTE[shift < 0], markerfacecolor="white" if side == "only" else None,
                label=SIDES[side], capsize=3)
ax.axvline(0.5, color="0.3", linestyle="--", linewidth=1.2)
ax.axvline(both["none"].value, color="0.3", linestyle=":", linewidth=1.2)
ax.set_yticks(at, list(arms))
ax.set(xlabel="attack accuracy", xlim=(-0.02, 1.02))
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
c.save_figure(figure, "both")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.table(("Defence", "Victims only", "Shadows too", "Share of the leak left, shadows too"),
        [[name, only[name], both[name], shares[name]] for name in arms], "tab:defenses-both",
        f"Accuracy of the KL attack, mean over ratios {', '.join(f'{r:g}' for r in ratios)} against {alpha0:g}; "
        f"{victims} victims and {shadows} shadows of each world, 95 % bootstrap intervals over victims.")

# %% [markdown]
# Label noise ({glue:text}`labels_name`) is judged rightly on {glue:text}`labels_only` by shadows that do not know
# it and on {glue:text}`labels_both` by shadows that do; DP-SGD ({glue:text}`dp_name`) on {glue:text}`dp_only` and
# {glue:text}`dp_both`; adversarial training ({glue:text}`pgd_name`) on {glue:text}`pgd_only` and
# {glue:text}`pgd_both`. Of all noise-like defences the one that leaves least to adaptive shadows is
# {glue:text}`noise_best`, with {glue:text}`noise_best_left` of the leak, and it costs
# {glue:text}`noise_best_cost` of task accuracy.
#
# ## How the rule hides or shows it
#
# The paper scales its scores over a balanced batch of victims and cuts at one half, which no adversary with one
# victim can do; but such a rule also forgives a shift that a mismatch gives to all victims alike, and so does the
# area under the ROC curve (AUC), which needs no threshold. Where AUC stays high while the accuracy falls to a coin, the defence has
# moved the threshold and left the order of the victims alone.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
rules = {name: [*(f"{summaries.mean_auc(games_of(name, side)):.2f}" for side in SIDES),
                *(accuracy(name, side, rule) for rule in ("batch", "zero") for side in SIDES)] for name in arms}
c.table(("Defence", *(f"{rule}, {side}" for rule in ("AUC", "Batch rule", "Zero rule") for side in SIDES.values())),
        [[name, *values] for name, values in rules.items()], "tab:defenses-rules",
        f"The same victims by AUC, by the paper's batch rule and cut at zero, mean over the ratios; {victims} victims and {shadows} "
        "shadows of each world, 95 % bootstrap intervals over victims.")

# %% [markdown]
# ## Re-sampling: where the ratio goes
#
# {numref}`fig:defenses-ratios` shows the adaptive adversary over the ratios. Under-sampled victims differ by their
# number of records, over-sampled ones by that and by how often a record recurs; with a fixed size only the
# *kinds* of records are left to tell, and every group has as many. {numref}`tab:defenses-leaked` turns
# accuracies into records ({eq}`eq:def-leaked`).

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:defenses-ratios", "caption": "Accuracy of the adaptive adversary against the ratio of world 1; top: the first strength of each noise-like defence, bottom: re-sampling. {glue:text}`victims_used` victims and {glue:text}`shadows_used` shadows of each world; bands are 95 % Wilson intervals."}, "image": {"alt": "Two panels of curves of attack accuracy over the ratio of world 1. Top: no defence, label noise, feature noise, DP-SGD and adversarial training. Bottom: no defence, under-sampling, over-sampling, over-sampling with augmentation and re-sampling to a fixed size."}}
each = {name: [played[name, "both", r].found["kl"].accuracy() for r in ratios] for name in arms}
resampled = [name for name, arm in arms.items() if arm.family == "re-sampling"]
strongest = [next(name for name, arm in arms.items() if arm.family == family) for family in
             dict.fromkeys(arm.family for arm in arms.values()) if family != "re-sampling"]
figure, axes = figures.panels(2, 1, height=4.2)
for ax, names in zip(axes[:, 0], (strongest, ["none", *resampled]), strict=True):
    figures.curves(ax, ratios, {name: each[name] for name in names}, ylabel="attack accuracy")
    ax.axhline(0.5, color="0.3", linestyle="--", linewidth=1.2)
    ax.set(ylim=(0, 1.03), xlabel="ratio of world 1")
    ax.legend(ncols=2, loc="lower center")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
rows = [[name, *(str(leak(j.correct[j.rule], alpha0, r)) for j, r in zip(games_of(name), ratios, strict=True)),
         summaries.mean_leak(games_of(name), ratios, alpha0, seed=seed)] for name in arms]
c.table(("Defence", *(f"{r:g}" for r in ratios), "mean"), rows, "tab:defenses-leaked",
        f"Records leaked to the adaptive adversary, by ratio of world 1 and in the mean; {victims} victims and {shadows} "
        "shadows of each world; ends from 95 % Wilson intervals, of the mean by bootstrap. No error counts as one.")

# %% [markdown]
# To shadows that do not know, under-sampling, over-sampling, its augmented form and the fixed size give
# {glue:text}`under_only`, {glue:text}`over_only`, {glue:text}`augmented_only` and {glue:text}`fixed_only`; to
# shadows that do, {glue:text}`under_both`, {glue:text}`over_both`, {glue:text}`augmented_both` and
# {glue:text}`fixed_both`. Fixing the size changes the accuracy of the adaptive adversary by
# {glue:text}`fixed_gain` from that on under-sampled victims. Fewer records alone are no defence: undefended
# perceptrons of {glue:text}`/notebooks/10_knowledge.ipynb::size_first:s` records still give an AUC of
# {glue:text}`/notebooks/10_knowledge.ipynb::small_auc:s` at ratios {glue:text}`/notebooks/10_knowledge.ipynb::size_at:s`
# ({ref}`chap:knowledge`).
#
# ## What it costs
#
# A defence that ruins the model stops the leak as well. {numref}`fig:defenses-utility` sets the adaptive accuracy
# against the victims' task accuracy and two gaps between the groups with and without the property: of accuracy,
# and of the share of positive answers (demographic parity).

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:defenses-utility", "caption": "Utility against leak: accuracy of the adaptive attack over the victims' task accuracy, their gap of accuracy and their gap of positive answers between the two groups (mean absolute gap of a victim), means over the ratios; one point a defence and strength. {glue:text}`victims_used` victims and {glue:text}`shadows_used` shadows of each world at every ratio; bars are 95 % bootstrap intervals over victims. Lower right is best on top, lower left below."}, "image": {"alt": "Three scatter plots with the accuracy of the adaptive attack on the vertical axis and, from top to bottom, task accuracy, accuracy gap and demographic parity gap on the horizontal one; one marker for each defence, coloured by family and labelled by strength."}}
measures = {"accuracy": "task accuracy", "groups": "accuracy gap between groups", "positive": "demographic parity gap"}
useful = {what: {name: utility(name, what) for name in arms} for what in measures}
families, tags = list(dict.fromkeys(arm.family for arm in arms.values())), {}
for name, arm in arms.items():
    tags[name] = name if arm.family == "re-sampling" else name.replace(arm.family, "").strip(", ").replace("epsilon ", "")
figure, axes = figures.panels(3, 1, height=3.3)
for ax, (what, title) in zip(axes[:, 0], measures.items(), strict=True):
    for k, family in enumerate(families):
        names = [name for name, arm in arms.items() if arm.family == family]
        x, y = ([values[name] for name in names] for values in (useful[what], both))
        place = [np.array([v.value for v in part]) for part in (x, y)]
        bars = [np.maximum([[v.value - v.low for v in part], [v.high - v.value for v in part]], 0) for part in (x, y)]
        ax.errorbar(*place, yerr=bars[1], xerr=bars[0], fmt=figures.MARKERS[k], color=figures.PALETTE[k], label=family,
                    linewidth=1)
        for j, (name, *where) in enumerate(zip(names, *place, strict=True)):
            if family != "none":
                ax.annotate(tags[name], where, (5, 4 - 15 * (j % 2)), textcoords="offset points", fontsize=9)
    ax.axhline(0.5, color="0.3", linestyle="--", linewidth=1.2)
    ax.margins(x=0.15)
    ax.set(xlabel=title, ylabel="adaptive accuracy")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
c.save_figure(figure, "utility")
figure

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.table(("Defence", *measures.values(), "Adaptive accuracy"),
        [[name, *(useful[what][name] for what in measures), both[name]] for name in arms], "tab:defenses-utility",
        f"Utility of {victims} victims of each world, means over worlds and ratios, on at most {groups.UTILITY:,} test "
        "records of the victims' party; 95 % bootstrap intervals over victims.")

# %% [markdown]
# Undefended victims reach a task accuracy of {glue:text}`none_utility`, with a gap of {glue:text}`none_gap` between
# the groups; size-fixed re-sampling ends at {glue:text}`fixed_utility` and {glue:text}`fixed_gap`, over-sampling at
# {glue:text}`over_utility` and {glue:text}`over_gap`.
#
# ## Unlearning against one reader of weights
#
# {cite:t}`stock2023lessons` change a trained victim's weights $\theta$ by gradient steps until one network
# $h$ that reads weights (PIN, {cite:t}`ganju2018property`) no longer knows the world,
# $h(\theta) \approx \tfrac12$. In the release of {cite:t}`suri2023dissecting` that takes a PIN from 99.8 % to
# 48.6 %. But an adversary need not ask *that* network, and its authors themselves find that it does not generalise
# to others. Here the defender trains its PIN on
# {glue:text}`readers_used` shadows of each world and takes shortest steps,
#
# ```{math}
# :label: eq:defenses-unlearn
# \theta \leftarrow \theta - \tfrac12\, (z - z^\star)\, \frac{\nabla z}{\lVert \nabla z \rVert^2},
# \qquad z = \operatorname{logit} h(\theta),
# ```
#
# with a goal $z^\star$ drawn at random close to 0, as stopping on the near side would give the world away by its
# sign. Then attack: that same PIN; a PIN of another seed, trained on the adversary's shadows; and the KL attack. The
# adaptive adversary unlearns its own shadows against its own PIN first and builds both attacks on those.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"figure": {"name": "fig:defenses-unlearning", "caption": "Accuracy of three attacks before and after property unlearning, and after it with shadows that were unlearned as well (not for the defender's own network); ratio {glue:text}`unlearn_used` against {glue:text}`alpha0_used`, {glue:text}`victims_used` victims and {glue:text}`readers_used` shadows of each world for every attack, threshold for each victim, 95 % Wilson intervals. Dashed: a coin."}, "image": {"alt": "Chart of attack accuracy with bars for three attacks on the horizontal axis, the defender's own network, another network and the KL attack, with one marker each for before unlearning, after it, and after it with shadows unlearned too."}}
pin = Game(Group(data, 0, unlearn_ratio, n, victims, plain), Group(data, 1, unlearn_ratio, n, readers, plain),
           alpha0, probes, seed=seed)
case = unlearning.Unlearning(pin, replace(pin.victims, count=readers, first=victims), epochs=reader_epochs)
[unlearned] = unlearning.play([case], c.store, device=c.device, workers=c.workers)
PHASES = {"before": "before", "after": "after", "both": "after, shadows too"}
asked = {key: judged.accuracy() for key, judged in unlearned.found.items()}
figure, axes = figures.panels(height=3.6)
ax = axes[0, 0]
for k, (phase, shown) in enumerate(PHASES.items()):
    there = [(place, asked[phase, name]) for place, name in enumerate(unlearning.ATTACKS) if (phase, name) in asked]
    at, values = [place + 0.15 * (k - 1) for place, _ in there], np.array([(v.value, v.low, v.high) for _, v in there]).T
    ax.errorbar(at, values[0], [values[0] - values[1], values[2] - values[0]], fmt=figures.MARKERS[k], capsize=4,
                color=figures.PALETTE[k], label=shown)
ax.axhline(0.5, color="0.3", linestyle="--", linewidth=1.2)
ax.set_xticks(range(3), ["PIN of the defender", "another PIN", "KL"])
ax.set(ylabel="attack accuracy", ylim=(0.2, 1.03))
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
c.save_figure(figure, "unlearning")
figure

# %% [markdown]
# Unlearning moves the weights by {glue:text}`moved` of their norm in {glue:text}`steps_used` steps and leaves a task
# accuracy of {glue:text}`unlearned_utility` (before: {glue:text}`learned_utility`). It takes the defender's own
# network from {glue:text}`own_before` to {glue:text}`own_after` and the other from {glue:text}`other_before` to
# {glue:text}`other_after` ({glue:text}`other_both` with adapted shadows); the KL attack, which never looks at
# weights, still has {glue:text}`kl_after` of {glue:text}`kl_before` ({glue:text}`kl_both` with adapted shadows). An
# accuracy well below one half is a threshold on the wrong side, not a defence.
#
# ## Asking which records were kept
#
# Re-sampling has a bypass that looks at no distribution at all. From $n_g$ records of group $g$ the trainer keeps
# $k$, the same number for both groups, so a record of group $g$ is kept with probability $s_g = k / n_g$ and
#
# ```{math}
# :label: eq:defenses-membership
# \alpha = \frac{n_1}{n_0 + n_1} = \frac{s_0}{s_0 + s_1}.
# ```
#
# An adversary who knows {glue:text}`known_used` records of either group that the trainer *had* tests which were
# *used*: a record counts as a member if the victim's loss is below the 5 % quantile of that record's losses on
# shadows trained without it (half of the {glue:text}`member_shadows_used` shadows have it). A test with true
# and false positive rates $t$ and $f$ finds a share $m_g = t s_g + f (1 - s_g)$, so
# $\hat s_g = (m_g - f) / (t - f)$, with rates measured on shadows that the thresholds were not made from. The
# script of {cite:t}`suri2023dissecting` puts $m_g$ straight into {eq}`eq:defenses-membership` and prints the *sum*
# of squared errors over 50 victims as their mean, which makes its $n_{\mathrm{leaked}} = \alpha (1 - \alpha) /
# \mathrm{MSE}$ fifty times too small. The trivial baseline always answers one half.

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
resampling = {name: membership.Membership(data, tuple(member_ratios), n, member_victims, member_shadows, member_known,
                                          arms[name].defense, plain, seed=seed) for name in ("under-sampling", FIXED)}
bypass = dict(zip(resampling, membership.play(list(resampling.values()), c.store, device=c.device, workers=c.workers),
                  strict=True))
rows, errors = [], {}
for name, out in bypass.items():
    for k, ratio in enumerate(member_ratios):
        squared = {kind: bootstrap((getattr(out, kind)[k] - ratio) ** 2, seed=seed) for kind in ("plain", "corrected")}
        errors[name, ratio] = squared
        rows.append([f"{name}, {ratio:g}", *(f"{v:.3f}" for v in squared.values()), f"{(0.5 - ratio) ** 2:.3f}",
                     regression_leak(out.corrected[k], ratio, seed=seed),
                     n_leaked_regression(ratio, (0.5 - ratio) ** 2) if ratio != 0.5 else "–"])
c.table(("Re-sampling, ratio", "MSE, as counted", "MSE, corrected", "MSE, always .5", "n_leaked, corrected",
         "n_leaked, always .5"), rows, "tab:defenses-membership",
        f"Mean squared error of the ratio estimated by membership, and records leaked; {member_victims} victims a ratio, "
        f"{member_shadows} shadows, {member_known} known records of each group, 95 % bootstrap intervals over victims.")

# %% [markdown]
# On shadows the test finds {glue:text}`member_tpr` of the members and takes {glue:text}`member_fpr` of the others for
# members (under-sampling, both groups together); victims behave like them, {glue:text}`victim_tpr` and
# {glue:text}`victim_fpr`. Over the ratios the corrected estimate has a mean squared error of
# {glue:text}`corrected_under` on under-sampled victims and {glue:text}`corrected_fixed` on those cut to a fixed size,
# the uncorrected one {glue:text}`counted_under` and {glue:text}`counted_fixed`, and always answering one half
# {glue:text}`half_error`. The bypass beats that baseline in {glue:text}`bypass_wins` of {glue:text}`bypass_cases`
# settings (whole interval below it). It lives on over-fitting: where losses hardly tell members from others, the
# correction divides by almost nothing, and a constant is the better guess, which $n_{\mathrm{leaked}}$ credits
# with records that nobody read.

# %% tags=["remove-cell", "nbval-ignore-output"]
noisy = {name: shares[name] for name, arm in arms.items() if arm.family not in ("none", "re-sampling")}
best = min(noisy, key=lambda name: noisy[name].value)
named = ruled | {"under": "under-sampling", "over": "over-sampling", "augmented": "over, augmented", "fixed": FIXED}
for key, name in named.items():
    c.record_all(**{f"{key}_only": only[name], f"{key}_both": both[name]})
for key, name in ruled.items():
    c.record(f"{key}_left", shares[name])
    c.record(f"{key}_name", name)
c.record_all(none_accuracy=both["none"], null_accuracy=judged_null, noise_best_left=noisy[best],
             fixed_gain=summaries.mean_gap(games_of(FIXED), games_of("under-sampling"), seed=seed))
c.record_all(".3f", none_utility=useful["accuracy"]["none"], none_gap=useful["groups"]["none"],
             fixed_utility=useful["accuracy"][FIXED], fixed_gap=useful["groups"][FIXED],
             over_utility=useful["accuracy"]["over-sampling"], over_gap=useful["groups"]["over-sampling"],
             noise_best_cost=useful["accuracy"]["none"].value - useful["accuracy"][best].value)
c.record_all(",d", victims_used=victims, shadows_used=shadows, probes_used=probes, ratio_count=len(ratios),
             records_used=n)
for key, name in (("own", "pin own"), ("other", "pin other"), ("kl", "kl")):
    c.record_all(**{f"{key}_{phase}": asked[phase, name] for phase in PHASES if (phase, name) in asked})
c.record_all(".3f", moved=bootstrap(unlearned.arrays["moved"].T, seed=seed),
             learned_utility=bootstrap(unlearned.arrays["accuracy/before"].T, seed=seed),
             unlearned_utility=bootstrap(unlearned.arrays["accuracy/after"].T, seed=seed))
c.record("steps_used", bootstrap(unlearned.arrays["steps"].T.astype(float), seed=seed), ".1f")
tested, truth = np.mean(bypass["under-sampling"].record["rates"], axis=0), bypass["under-sampling"].record["seen"]
c.record_all(".3f", member_tpr=tested[0], member_fpr=tested[1], victim_tpr=truth[0], victim_fpr=truth[1],
             half_error=np.mean([(0.5 - r) ** 2 for r in member_ratios]))
for key, name in (("under", "under-sampling"), ("fixed", FIXED)):
    target = np.array(member_ratios)[:, None]
    c.record_all(".3f", **{f"{word}_{key}": bootstrap(((getattr(bypass[name], kind) - target) ** 2).T, seed=seed)
                           for word, kind in (("counted", "plain"), ("corrected", "corrected"))})
wins = sum(squared["corrected"].below((0.5 - ratio) ** 2) for (_, ratio), squared in errors.items())
c.record_all("d", bypass_wins=wins, bypass_cases=len(errors), readers_used=readers, known_used=member_known,
             member_shadows_used=member_shadows)
c.record("unlearn_used", unlearn_ratio, "g")
c.record("noise_best", best)
c.record("alpha0_used", alpha0, "g")
c.record("kept_percent", f"{kept:.0%} of them")

# %% [markdown]
# ## Verdicts

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
every, at_least, at_most = verdicts.every, verdicts.at_least, verdicts.at_most
outcome = {name: at_least(shares[name], rule_c3) for name in ruled.values()}
worst = min(outcome, key=lambda name: shares[name].value)
coin = played["null"].found["kl"].accuracy().value - 0.5
c.verdict("DI-C3", f"{', '.join(outcome)}: each leaves at least {rule_c3} of (accuracy - .5) to adaptive shadows, mean "
          f"over ratios (shown: the least, {worst})", value=shares[worst],
          paper="DP-SGD, epsilon 1: 1.0 (86.4 % against 86.4 %, 100 shadows); others only against plain shadows",
          null=coin / (both["none"].value - 0.5) if both["none"].value > 0.5 else None, baseline=0.0,
          some_settings=any(o["point_holds"] for o in outcome.values()), **every(*outcome.values()))
outcome = {name: every(at_most(only[name], 0.5 + rule_c4), at_least(only[name], 0.5 - rule_c4))
           for name in resampled[:2]}
worst = max(outcome, key=lambda name: abs(only[name].value - 0.5))
c.verdict("DI-C4", f"{' and '.join(outcome)} of victims alone bring accuracy within {rule_c4} of .5, mean over ratios "
          f"(shown: the farther, {worst}; with adaptive shadows {', '.join(f'{both[k]} ({k})' for k in resampled)})",
          value=only[worst], paper="56.7 % (under), 51.9 % (over); adaptive 80.4 %, 70.2 %", null=judged_null,
          baseline="0.50 (coin)", some_settings=any(o["point_holds"] for o in outcome.values()),
          **every(*outcome.values()))
c.verdict_table("tab:defenses-verdicts", "Verdicts of this chapter, by rules fixed before the run.")

# %% tags=["hide-input"]
c.verdict_words()

# %% [markdown]
# **What would change our mind.** A noise-like defence whose adaptive accuracy falls to the null while task accuracy
# stays would refute DI-C3 in the sense that matters. Under-sampled victims that an adversary without their defence
# tells apart would refute DI-C4. If adaptive shadows read size-fixed victims as well as under-sampled ones, the
# size would not be what gives the ratio away.
#
# **Limits.** One architecture, one table, {glue:text}`records_used` records a model, against 200,000 in the
# paper: DP-SGD at a given $\varepsilon$ adds more noise to fewer records, and its $\varepsilon$ holds for Poisson
# sampling while batches here are shuffled. Adversarial radii are in standard deviations of a feature, and one-hot
# categories move like numbers. The adaptive adversary knows the defence's strength and, under re-sampling, the size
# before it. Only the KL attack is played against the defences on records and training; another
# attack may read more. World 0 is the same set of victims at every ratio. A mean without any error has an
# interval of no width. Strengths below the first of each list are beyond the rules.
#
# :::{admonition} Rerun this chapter
# :class: tip
# ```bash
# python -m helpers run 11 --profile quick                        # toy size, under a minute
# python -m helpers run 11 --profile quick -p seed 3 --out my_run # with other parameters
# python -m helpers run 11 --profile quick -p table my.csv -p property sex=Female -p label income=high --out my_run
# python -m helpers run 11                                        # reuses the published measurements
# ```
# What each profile costs is measured on {doc}`/book/performance`.
# :::

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"markdown_format": "myst"}
c.provenance()
