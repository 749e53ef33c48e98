"""The scatter of embeddings: its numbers against scikit-learn, its cells, its cursor, and data that changed."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, picture, shows, until
from pictures import png

from deeptune.data.run_samples import RunSamples
from deeptune.data.sources.parquet import open_source
from deeptune.errors import DataError
from deeptune.report import embedding_points as embeddings
from deeptune.report.embedding_points import principal_axes, read_points
from deeptune.runs import RunDirectory, write_json, write_text
from deeptune.show.scatter import Scene, Window, dots, draw, neighbour, sign_of, style_of, whole
from tui.app import DeepTuneApp
from tui.options import Options
from tui.screens import embeddings as screens
from tui.screens.embeddings import EmbeddingsScreen
from tui.widgets.picture import Picture
from tui.widgets.scatter import Scatter

NAMES = ["ant", "[b]bee[/b]", "cat"]


def write_run(path, rows: int = 60, size: int = 8, *, task: str = "classification", modality: str = "image"):
    """A run's files: embeddings in clouds by class, with the data that they came from."""
    run, generator = RunDirectory(path / "runs" / "clouds"), np.random.default_rng(0)
    run.embeddings("test").parent.mkdir(parents=True)
    group = np.arange(rows) % 3
    values = generator.normal(size=(rows, size)) + 6 * np.eye(3, size)[group]
    number = task == "regression"
    labels = [float(value) for value in values[:, 0]] if number else group.tolist()
    source = path / "data.parquet"
    inputs = {"images": [png(8, 8, (10 * n % 256, 0, 0)) for n in range(rows)]}
    inputs = inputs if modality == "image" else {"text": [f"[red]text[/red] {n} \x1b[2J" for n in range(rows)]}
    pq.write_table(pa.table({**inputs, "labels": labels}), source)
    write_text(
        run.spec, f'task = "{task}"\n[data]\npath = "{source}"\n[backbone]\nname = "resnet18"\nweights = "random"\n'
    )  # fmt: skip
    write_json(run.run, {"fingerprints": {"data": open_source(str(source)).fingerprint()}})
    classes = {"task": "classification", "values": [0, 1, 2], "names": NAMES}
    write_json(run.labels, {"task": "regression", "mean": 0.0, "std": 1.0} if number else classes)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), size)
    table = pa.table({"row": np.arange(rows), "label": labels, "embedding": lists})
    pq.write_table(table, run.embeddings("test"))
    pq.write_table(table.slice(0, rows // 2), run.embeddings("train"))
    pq.write_table(pa.table({"row": np.arange(rows), "prediction": labels}), run.predictions)
    return run, values, source


def opened(run: RunDirectory, steps, size=(80, 24), **options) -> None:
    app = DeepTuneApp(Options(root=run.path.parent, **options))

    async def first(pilot):
        app.open_embeddings(run)
        await until(pilot, lambda: isinstance(app.screen, EmbeddingsScreen) and app.screen.points is not None)
        await pilot.pause()
        await steps(pilot, app.screen, app.screen.query_one(Scatter))

    drive(app, first, size=size)


@pytest.mark.parametrize("shape", [(200, 6), (20, 50), (5, 1)])
def test_components_are_those_of_scikit_learn(shape):
    from sklearn.decomposition import PCA

    values = np.random.default_rng(1).normal(size=shape) * np.linspace(3, 1, shape[1]) + 5
    mean, axes, shares = principal_axes(values)
    count = min(2, *shape)
    theirs = PCA(count, svd_solver="full").fit(values)
    np.testing.assert_allclose(shares[:count], theirs.explained_variance_ratio_, atol=1e-9)
    ours, wanted = ((values - mean) @ axes)[:, :count], theirs.transform(values)
    np.testing.assert_allclose(ours * np.sign((ours * wanted).sum(axis=0)), wanted, atol=1e-7)


def test_points_leave_out_what_has_no_finite_embedding(tmp_path):
    run, values, _ = write_run(tmp_path)
    table = pq.read_table(run.embeddings("test"))
    lists = table["embedding"].to_pylist()
    lists[3], lists[5] = None, [float("nan")] * 8
    pq.write_table(
        table.set_column(2, "embedding", pa.array(lists, table.schema.field(2).type)), run.embeddings("test")
    )
    points = read_points(run, "test")
    kept = [row for row in range(60) if row not in (3, 5)]
    assert points.rows.tolist() == kept
    mean, axes, _ = principal_axes(values[kept].astype(np.float32).astype(float))
    np.testing.assert_allclose(points.xy, (values[kept].astype(np.float32) - mean) @ axes, atol=1e-5)
    assert points.label(1) == "1 ([b]bee[/b])"
    assert points.predictions[1] == points.label(1)


def test_of_many_rows_some_are_fitted_and_some_shown_the_same_ones_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "FITTED", 40)
    monkeypatch.setattr(embeddings, "MOST", 100)
    run, *_ = write_run(tmp_path, rows=600)
    points, again = read_points(run, "test"), read_points(run, "test")
    assert points.total == 600
    assert 20 < points.fitted < 60
    assert 60 < len(points.rows) < 140
    assert points.rows.tolist() == again.rows.tolist()


def test_numbers_are_in_ranges_of_as_many_rows(tmp_path):
    run, values, _ = write_run(tmp_path, task="regression")
    points = read_points(run, "test")
    assert points.ordered
    assert np.bincount(points.group).tolist() == [10] * 6
    np.testing.assert_allclose(points.values, values[:, 0])
    order = np.argsort(points.values)
    assert (np.diff(points.group[order]) >= 0).all()


def test_a_damaged_file_is_told(tmp_path):
    run, *_ = write_run(tmp_path)
    run.embeddings("test").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match=r"test\.parquet can't be read"):
        read_points(run, "test")


def test_cells_have_the_dots_and_the_class_of_most_points():
    xy = np.array([[0.1, 3.9], [0.1, 3.9], [0.6, 3.1], [1.5, 0.1], [9.0, 9.0]])
    scene = Scene(xy, np.array([1, 1, 0, 2, 0]), Window(0, 2, 0, 4))
    rows = draw(scene, 2, 1)  # a cell is 1 wide and 4 high, its dots 0.5 by 1
    assert rows == [[("⠉", style_of(1)), ("⢀", style_of(2))]]
    lettered = draw(Scene(xy, scene.group, scene.window, letters=True), 2, 1)
    assert "".join(text for text, _ in lettered[0]) == sign_of(1) + sign_of(2)
    alone = draw(Scene(xy, scene.group, scene.window, bright=0, alone=True), 2, 1)
    assert alone[0][0] == ("⠈", style_of(0))
    bright = draw(Scene(xy, scene.group, scene.window, bright=0), 2, 1)
    assert [style for _, style in bright[0]] == [style_of(0), "faint"]


@pytest.mark.parametrize(("across", "up"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_the_cursor_goes_to_a_point_in_its_direction_until_there_is_none(across, up):
    xy = np.random.default_rng(0).normal(size=(200, 2))
    at, seen = 0, [0]
    while True:
        scene = Scene(xy, np.zeros(200, int), whole(xy), cursor=at)
        found = neighbour(scene, across, up, 60, 20)
        if found is None:
            break
        assert (xy[found] - xy[at]) @ [across, up] > 0
        at = found
        seen.append(at)
    assert len(seen) > 3
    places = dots(xy, whole(xy), 60, 20) * [across, -up]
    step = 2 if across else 4
    assert (places.sum(axis=1) - places[at].sum() < step).all()  # nothing is farther that way


def test_the_row_under_the_cursor_is_shown_with_its_image(tmp_path):
    run, *_ = write_run(tmp_path)

    async def steps(pilot, screen, scatter):
        assert "60 rows" in picture(pilot.app)
        assert "[b]bee[/b]" in picture(pilot.app)
        await pilot.press("n", "n")
        await shows(pilot, "row 1 ")
        drawn = screen.query_one(Picture)
        colour = lambda: drawn.render_line(1)._segments[0].style.bgcolor  # noqa: E731
        await until(pilot, lambda: colour() is not None and colour().triplet == (10, 0, 0))
        before = scatter.scene.cursor
        await pilot.press("right")
        assert scatter.scene.xy[scatter.scene.cursor][0] >= scatter.scene.xy[before][0]
        await pilot.press("plus", "plus")
        assert scatter.zoom == pytest.approx(2.25)
        await pilot.press("shift+left", "0")
        assert scatter.zoom == pytest.approx(1)
        await pilot.press("f", "f", "o")
        assert (scatter.scene.bright, scatter.scene.alone) == (1, True)
        await pilot.press("n", "n")
        assert screen.points.group[scatter.scene.cursor] == 1
        await pilot.press("s")
        await until(pilot, lambda: screen.points.split == "train")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, EmbeddingsScreen))

    opened(run, steps)


def test_reading_and_projecting_are_done_in_threads(tmp_path, monkeypatch):
    run, *_ = write_run(tmp_path)
    threads = []

    def noting(work):
        def noted(*args):
            threads.append(threading.current_thread())
            return work(*args)

        return noted

    monkeypatch.setattr(screens, "read_points", noting(read_points))
    monkeypatch.setattr(RunSamples, "read", noting(RunSamples.read))
    monkeypatch.setattr(RunSamples, "changed", noting(RunSamples.changed))

    async def steps(pilot, screen, scatter):
        await pilot.press("n")
        await until(pilot, lambda: len(threads) >= 3)
        assert threading.main_thread() not in threads

    opened(run, steps)


@pytest.mark.parametrize("size", [(60, 16), (160, 45)])
def test_texts_are_shown_as_they_are_in_ascii_too(tmp_path, size):
    run, *_ = write_run(tmp_path, modality="text")

    async def steps(pilot, screen, scatter):
        await pilot.press("n")
        await shows(pilot, "[red]text[/red] 0")
        assert "\x1b" not in picture(pilot.app)
        for row in scatter._rows:
            assert "".join(text for text, _ in row).isascii()

    opened(run, steps, size=size, ascii=True)


def test_data_that_went_or_changed_is_told(tmp_path):
    run, _, source = write_run(tmp_path)
    kept = source.read_bytes()
    source.unlink()

    async def gone(pilot, screen, scatter):
        await pilot.press("n")
        await shows(pilot, "there is no file")

    opened(run, gone, size=(160, 45))
    source.write_bytes(kept)
    table = pq.read_table(source)
    pq.write_table(table.take(list(range(59, -1, -1))), source)

    async def changed(pilot, screen, scatter):
        await pilot.press("n")
        await shows(pilot, "the data has changed since the run")

    opened(run, changed, size=(160, 45))
