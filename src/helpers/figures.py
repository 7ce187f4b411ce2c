"""One style and the recurring plots: plates of pictures, heat maps with intervals, sweep curves.

Nothing is computed here: numbers and intervals come in, a figure goes out. Figures are made without
pyplot, so a notebook shows each exactly once, when it is the value of a cell. They are at most 7
inches wide with 13-point type, which a phone 390 pixels wide still shows at about 10 pixels; series
differ in marker and dash as well as in colour, and regimes in hatching as well as in shade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as _Figure
from PIL import Image

WIDTH = 7.0  # inches
DPI = 110
PALETTE = tuple(sns.color_palette("colorblind", 8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
STYLE = {
    "figure.dpi": DPI, "savefig.dpi": DPI, "figure.facecolor": "white", "axes.facecolor": "white",
    "savefig.facecolor": "white", "savefig.transparent": False, "font.size": 13,
    "axes.titlesize": 14, "axes.labelsize": 13, "xtick.labelsize": 12, "ytick.labelsize": 12,
    "legend.fontsize": 12, "legend.framealpha": 1.0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True,
    "lines.linewidth": 2.0, "lines.markersize": 7.0, "font.family": "DejaVu Sans",
}


class Figure(_Figure):
    """A figure that a notebook shows when it is the value of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        """A PNG of at most 256 colours, a third of the size, unless colours would be lost."""
        file, small = BytesIO(), BytesIO()
        self.savefig(file, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        full = Image.open(file).convert("RGB")
        few = full.quantize(256, kmeans=2, dither=Image.Dither.NONE)
        lost = np.abs(np.asarray(few.convert("RGB"), dtype=np.int16) - np.asarray(full)).mean()
        few.save(small, format="png", optimize=True)
        return small.getvalue() if lost < 0.5 else file.getvalue()


def style() -> None:
    """Make the book's style the default of this process, for plots drawn outside this module."""
    mpl.rcParams.update(STYLE)


def panels(rows: int = 1, columns: int = 1, *, height: float = 3.6, share_y: bool = False,
           share_x: bool = False) -> tuple[Figure, np.ndarray]:
    """An empty figure and its axes, array [rows, columns]; `height` in inches for each row."""
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, height * rows), dpi=DPI, layout="constrained")
        return fig, fig.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)


def plate(rows: Sequence[np.ndarray], row_labels: Sequence[str],
          col_labels: Sequence[str] | None = None, *, gap: int = 1, title: str = "") -> Figure:
    """A plate of pictures: one row for each model, one column for each noise.

    Parameters
    ----------
    rows : sequence of uint8 [k, H, W, C]
        The same k noises in every row; C is 1 (grey) or 3. Sizes may differ between rows.
    row_labels : sequence of str
        Written above the rows, which leaves them the whole width.
    col_labels : sequence of k str, optional
    gap : int
        White pixels between neighbours.

    Raises
    ------
    ValueError
        If the rows differ in k, or labels and rows in number, or an image is not uint8 with 1 or 3
        channels.
    """
    rows = [np.asarray(row) for row in rows]
    if not rows or len(rows) != len(row_labels):
        raise ValueError(f"{len(rows)} rows and {len(row_labels)} labels: need one label for each")
    for row in rows:
        if row.ndim != 4 or row.dtype != np.uint8 or row.shape[3] not in (1, 3) or not len(row):
            raise ValueError(f"row {row.dtype} {row.shape}: need uint8 [k, H, W, C], C = 1 or 3")
    columns = len(rows[0])
    if any(len(row) != columns for row in rows) or len(col_labels or rows[0]) != columns:
        raise ValueError(f"rows of {[len(r) for r in rows]} pictures, {len(col_labels or rows[0])} "
                         "columns: every row and the column labels need the same number")
    label = 0.24  # inches for one line of type
    heights = [label + WIDTH / columns * row.shape[1] / row.shape[2] for row in rows]
    top = 0.04 + label * bool(col_labels) + 0.34 * bool(title)
    total = top + sum(heights)
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, total), dpi=DPI)
        if title:
            fig.text(0.005, 1 - 0.04 / total, title, va="top", fontsize=14)
        for j, text in enumerate(col_labels or ()):
            fig.text((j + 0.5) / columns, 1 - (top - 0.04) / total, text, ha="center", va="bottom",
                     fontsize=12)
        start = top
        for row, text, height in zip(rows, row_labels, heights, strict=True):
            fig.text(0.005, 1 - (start + 0.03) / total, text, va="top", fontsize=12)
            ax = fig.add_axes((0, 1 - (start + height) / total, 1, (height - label) / total))
            ax.imshow(_strip(row, gap), interpolation="nearest", aspect="auto")
            ax.set_axis_off()
            start += height
    return fig


def heatmap(matrix: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None,
            labels: Sequence[str] = (), *, upper: Sequence[np.ndarray] | None = None,
            triangle: bool = False, names: Sequence[str] = ("",),
            limits: tuple[float, float] = (0, 1), digits: int = 2) -> Figure:
    """Heat map of a model-by-model score with the interval written in each cell.

    Parameters
    ----------
    matrix, low, high : array [m, m]
        Score and interval ends; NaN cells stay empty. The diagonal is left blank.
    labels : sequence of m str
    upper : (matrix, low, high), optional
        A second score for the cells above the diagonal; the first keeps those below.
    triangle : bool
        Draw only the cells below the diagonal.
    names : sequence of str
        Name of the score, or of the lower and the upper one; printed as the title.
    limits : tuple
        Values at the two ends of the colour scale.
    digits : int
        Decimals in the cells.
    """
    parts = [np.array(matrix, dtype=np.float64)]
    parts += [np.full_like(parts[0], np.nan) if x is None else np.array(x, np.float64)
              for x in (low, high)]
    m = len(parts[0])
    if any(x.shape != (m, m) for x in parts) or len(labels) != m:
        raise ValueError(f"shapes {[x.shape for x in parts]}, {len(labels)} labels: "
                         "need [m, m] and m labels")
    above = np.triu(np.ones((m, m), dtype=bool), 1)
    if upper is not None:
        parts = [np.where(above, np.asarray(u), x) for u, x in zip(upper, parts, strict=True)]
    hidden = np.eye(m, dtype=bool) | (above if triangle and upper is None else False)
    parts[0][hidden] = np.nan
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        fig = Figure(figsize=(WIDTH, 0.85 * WIDTH), dpi=DPI, layout="constrained")
        ax = fig.subplots()
        colours = sns.color_palette("crest", as_cmap=True)
        picture = ax.imshow(parts[0], cmap=colours, vmin=limits[0], vmax=limits[1])
        for i, j in zip(*np.nonzero(np.isfinite(parts[0])), strict=True):
            red, green, blue, _ = picture.to_rgba(parts[0][i, j])
            ink = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black"
            ends = np.isfinite(parts[1][i, j]) and m <= 10
            ax.text(j, i - 0.12 * ends, _short(parts[0][i, j], digits), color=ink, ha="center",
                    va="center", fontsize=13 if m <= 10 else 9)
            if ends:
                ax.text(j, i + 0.25, f"{_short(parts[1][i, j], digits)}–"
                        f"{_short(parts[2][i, j], digits)}", color=ink, ha="center", va="center",
                        fontsize=9 if m > 6 else 11)
        ax.set_xticks(range(m), labels, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(m), labels)
        ax.tick_params(length=0, labelsize=11)
        ax.spines[:].set_visible(False)
        if triangle and upper is None:  # the first row and the last column are empty
            ax.set(xlim=(-0.5, m - 1.5), ylim=(m - 0.5, 0.5))
        ax.set_title(names[0] if upper is None else f"below: {names[0]}, above: {names[-1]}")
    return fig


def sweep(ax: Axes, x: Sequence[float], intervals: Sequence, label: str, marker: str | None = None,
          *, color=None) -> None:
    """Draw one curve: markers at the values, a band over the intervals.

    Parameters
    ----------
    ax : Axes
        From `panels`. Colour, marker and dash follow from how many curves it already holds.
    x : sequence of float
    intervals : sequence of Interval
        A NaN or infinite end leaves a hole in the band, not in the line.
    label : str
        Legend entry; the legend itself is `ax.legend()`.
    """
    if len(x) != len(intervals):
        raise ValueError(f"{len(x)} abscissae and {len(intervals)} intervals: need equal numbers")
    at = sum(line.get_gid() == "sweep" for line in ax.lines)
    color = PALETTE[at % len(PALETTE)] if color is None else color
    value, low, high = (np.array([getattr(i, end) for i in intervals], dtype=np.float64)
                        for end in ("value", "low", "high"))
    known = np.isfinite(low) & np.isfinite(high)
    with mpl.rc_context(STYLE):
        ax.plot(x, value, color=color, label=label, marker=marker or MARKERS[at % len(MARKERS)],
                linestyle=DASHES[at % len(DASHES)], gid="sweep", markeredgecolor="white")
        ax.fill_between(x, low, high, where=known, color=color, alpha=0.2, linewidth=0)


def curves(ax: Axes, x: Sequence[float], series: Mapping[str, Sequence], *, ylabel: str = "",
           share: bool = False) -> None:
    """Draw one `sweep` for each name; a series may end before `x` does.

    With `share` the axis runs from 0 to 1, without it from 0.
    """
    for label, intervals in series.items():
        sweep(ax, x[:len(intervals)], intervals, label)
    ax.set(ylabel=ylabel)
    ax.set_ylim(*((-0.03, 1.03) if share else (0, None)))


def points(ax: Axes, labels: Sequence[str], intervals: Sequence) -> None:
    """Draw one marker with its interval for each category; `labels` go under the axis."""
    at = np.arange(len(labels))
    value, low, high = (np.array([getattr(i, end) for i in intervals], dtype=np.float64)
                        for end in ("value", "low", "high"))
    with mpl.rc_context(STYLE):
        ax.errorbar(at, value, np.maximum([value - low, high - value], 0), fmt="o",
                    color=PALETTE[0], capsize=5)
        ax.set_xticks(at, labels)
        ax.set_xlim(-0.5, len(labels) - 0.5)


def log_axis(ax: Axes, ticks: Sequence[float], label: str) -> None:
    """A logarithmic x axis with exactly these ticks, written as plain numbers."""
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(label)


def size_axis(ax: Axes, sizes: Sequence[int], label: str = "training images N") -> None:
    """A log2 axis with the sizes written out, every other one when there are more than seven."""
    sizes = list(sizes)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes[::2 if len(sizes) > 7 else 1])
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    ax.tick_params(axis="x", rotation=30)
    ax.set_xlabel(label)


def threshold_curves(curves: Mapping[str, Sequence], grid: Sequence[float], *, xlabel: str,
                     ylabel: str = "share of noises", threshold: float | None = None) -> Figure:
    """Score against its threshold, one curve with its band for each name.

    `curves` maps a name to the intervals of `scores.threshold_curve` on `grid`; a vertical line
    marks the `threshold` that the chapter uses.
    """
    fig, axes = panels()
    ax = axes[0, 0]
    for label, intervals in curves.items():
        sweep(ax, grid, intervals, label, marker="None")
    with mpl.rc_context(STYLE):
        if threshold is not None:
            ax.axvline(threshold, color="0.3", linewidth=1.2, zorder=0)
            ax.annotate(f" {threshold:g}", (threshold, 1.0), xycoords=("data", "axes fraction"),
                        va="top", color="0.3")
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.02, 1.02))
        ax.legend()
    return fig


def mark_regimes(ax: Axes, copying_to: float, generalising_from: float,
                 labels: tuple[str, str] = ("copying", "generalising")) -> None:
    """Shade the two regimes of a sweep: left of the first size and right of the second.

    Call it after the curves are drawn; the limits of the axis stay as they are. A size that is not
    finite (censored) leaves its side unmarked.
    """
    left, right = ax.get_xlim()
    spans = ((left, copying_to, "//", labels[0], 0.01, "left"),
             (generalising_from, right, "..", labels[1], 0.99, "right"))
    with mpl.rc_context(STYLE | {"hatch.linewidth": 0.6}):
        for start, end, hatch, label, place, side in spans:
            if np.isfinite(start) and np.isfinite(end) and start < end:
                ax.axvspan(start, end, facecolor="0.96", edgecolor="0.85", hatch=hatch, zorder=-1,
                           linewidth=0)
                ax.text(place, 1.01, label, transform=ax.transAxes, ha=side, va="bottom",
                        color="0.3", fontsize=12)
    ax.set_xlim(left, right)


def _strip(row: np.ndarray, gap: int) -> np.ndarray:
    """Pictures side by side on white, uint8 [H, k * (W + gap), 3]."""
    row = np.broadcast_to(row, (*row.shape[:3], 3))
    framed = np.pad(row, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def _short(number: float, digits: int) -> str:
    """A number without its leading zero (.82), to fit a cell."""
    text = f"{number:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
