"""Figures hold what they were given, fit a phone, and are not registered with pyplot."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers import figures
from helpers.intervals import Interval

mpl.use("Agg")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def pixels(fig):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def line(n, start=0.0):
    return [Interval(start + k / n, start + k / n - 0.05, start + k / n + 0.05) for k in range(n)]


@pytest.mark.parametrize("channels", [1, 3])
def test_plate_shows_the_images_in_order(rng, channels):
    rows = [rng.integers(0, 256, (5, 8, 8, channels), dtype=np.uint8) for _ in range(3)]
    fig = figures.plate(rows, ["a", "b", "c"], list("12345"), title="plate")
    assert isinstance(fig, Figure) and len(fig.axes) == 3
    for row, ax in zip(rows, fig.axes, strict=True):
        shown = np.asarray(ax.images[0].get_array())
        for k in range(5):
            assert (shown[:, 9 * k:9 * k + 8] == row[k]).all()
            assert (shown[:, 9 * k + 8] == 255).all()
    texts = [t.get_text() for t in fig.texts]
    assert all(t in texts for t in ["a", "b", "c", "1", "5", "plate"])
    image = pixels(fig)
    assert image.shape[1] == 770 and (image[..., 3] == 255).all()


def test_plate_rows_may_differ_in_size(rng):
    rows = [rng.integers(0, 256, (4, s, s, 1), dtype=np.uint8) for s in (8, 16)]
    fig = figures.plate(rows, ["small", "large"])
    first, second = (ax.get_position() for ax in fig.axes)
    assert first.height == pytest.approx(second.height) and first.y0 > second.y1


@pytest.mark.parametrize(("rows", "labels", "columns"), [
    ([np.zeros((2, 8, 8, 1), np.uint8)], [], None),
    ([np.zeros((2, 8, 8, 2), np.uint8)], ["a"], None),
    ([np.zeros((2, 8, 8, 1))], ["a"], None),
    ([np.zeros((2, 8, 8, 1), np.uint8), np.zeros((3, 8, 8, 1), np.uint8)], ["a", "b"], None),
    ([np.zeros((2, 8, 8, 1), np.uint8)], ["a"], ["1"]),
    ([], [], None)])
def test_plate_refuses(rows, labels, columns):
    with pytest.raises(ValueError, match="need"):
        figures.plate(rows, labels, columns)


def test_heatmap_writes_values_and_intervals():
    value = np.array([[1, 0.82, 0.7], [0.82, 1, 0.31], [0.7, 0.31, 1]])
    fig = figures.heatmap(value, value - 0.02, value + 0.02, ["a", "b", "c"], names=("RP",))
    texts = [t.get_text() for t in fig.axes[0].texts]
    assert texts.count(".82") == 2 and texts.count(".80–.84") == 2 and len(texts) == 12
    lower = figures.heatmap(value, value - 0.02, value + 0.02, ["a", "b", "c"], triangle=True)
    assert len(lower.axes[0].texts) == 6
    assert (value.diagonal() == 1).all()  # the input is left as it was


def test_heatmap_puts_the_second_score_above():
    first, second = np.full((3, 3), 0.25), np.full((3, 3), 0.75)
    fig = figures.heatmap(first, labels=["a", "b", "c"], upper=(second, second, second),
                          names=("RP", "MAE"))
    shown = np.ma.filled(fig.axes[0].images[0].get_array(), np.nan)
    assert (shown[np.tril_indices(3, -1)] == 0.25).all()
    assert (shown[np.triu_indices(3, 1)] == 0.75).all()
    assert np.isnan(np.diag(shown)).all()
    assert fig.axes[0].get_title() == "below: RP, above: MAE"


def test_heatmap_refuses():
    with pytest.raises(ValueError, match="labels"):
        figures.heatmap(np.zeros((2, 2)), labels=["a"])


def test_sweep_draws_line_band_and_distinct_series():
    fig, axes = figures.panels(1, 2)
    ax = axes[0, 0]
    for k in range(3):
        figures.sweep(ax, range(5), line(5, k), f"width {k}")
    ax.legend()
    assert [ln.get_label() for ln in ax.lines] == ["width 0", "width 1", "width 2"]
    assert ax.lines[1].get_ydata() == pytest.approx([1, 1.2, 1.4, 1.6, 1.8])
    for get in ("get_color", "get_marker", "get_linestyle"):
        assert len({str(getattr(ln, get)()) for ln in ax.lines}) == 3
    band = ax.collections[1].get_datalim(ax.transData)
    assert (band.y0, band.y1) == pytest.approx((0.95, 1.85))
    with pytest.raises(ValueError, match="equal numbers"):
        figures.sweep(ax, range(4), line(5), "x")
    assert pixels(fig).shape[1] == 770


def test_curves_draw_every_series_as_far_as_it_goes():
    _, axes = figures.panels(1, 2)
    figures.curves(axes[0, 0], range(5), {"a": line(5), "b": line(3)}, ylabel="share", share=True)
    figures.curves(axes[0, 1], range(5), {"a": line(5)})
    assert [len(ln.get_xdata()) for ln in axes[0, 0].lines] == [5, 3]
    assert axes[0, 0].get_ylim() == (-0.03, 1.03) and axes[0, 0].get_ylabel() == "share"
    assert axes[0, 1].get_ylim()[0] == 0


def test_sweep_survives_missing_ends():
    fig, axes = figures.panels()
    points = [*line(3), Interval(0.5, np.nan, np.nan), Interval(np.nan, -np.inf, np.inf)]
    figures.sweep(axes[0, 0], range(5), points, "a")
    assert np.isfinite(axes[0, 0].get_ylim()).all()
    pixels(fig)


def test_size_axis_and_regimes():
    fig, axes = figures.panels()
    ax = axes[0, 0]
    sizes = [2**k for k in range(4, 15)]
    figures.sweep(ax, sizes, line(11), "a")
    figures.size_axis(ax, sizes)
    before = ax.get_xlim()
    figures.mark_regimes(ax, 256, 4096)
    assert ax.get_xlim() == before
    assert [t.get_text() for t in ax.texts] == ["copying", "generalising"]
    edges = [p.get_x() + p.get_width() for p in ax.patches][0], ax.patches[1].get_x()
    assert edges == pytest.approx((256, 4096))
    assert ax.xaxis.get_major_formatter()(16384, 0) == "16,384"
    censored = figures.panels()[1][0, 0]
    figures.sweep(censored, sizes, line(11), "a")
    figures.mark_regimes(censored, 256, np.inf)
    assert [t.get_text() for t in censored.texts] == ["copying"]
    pixels(fig)


def test_threshold_curves():
    grid = np.linspace(0, 60, 20)
    fig = figures.threshold_curves({"same": line(20), "permuted": line(20)}, grid, xlabel="t",
                                   threshold=15)
    ax = fig.axes[0]
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"same", "permuted"}
    assert 15 in [ln.get_xdata()[0] for ln in ax.lines]
    assert pixels(fig).shape[0] > 100


def test_no_pyplot_figures_and_style_is_optional():
    from matplotlib import pyplot

    pyplot.close("all")
    before = dict(mpl.rcParams)
    figures.panels()
    figures.heatmap(np.eye(2), labels=["a", "b"])
    assert pyplot.get_fignums() == [] and dict(mpl.rcParams) == before
    with mpl.rc_context():
        figures.style()
        assert mpl.rcParams["figure.dpi"] == figures.DPI
        assert mpl.rcParams["savefig.transparent"] is False


def test_type_stays_readable_on_a_phone():
    # A 390-pixel screen shows the figure at 390 / (WIDTH * DPI); points are DPI / 72 pixels.
    scale = 390 / (figures.WIDTH * figures.DPI)
    for name in ("font.size", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"):
        assert figures.STYLE[name] * figures.DPI / 72 * scale >= 9
