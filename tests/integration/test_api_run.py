"""`deeptune.finetune`, `Run` and `load_spec`: runs that Python starts, watches and reads."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png

import deeptune
from deeptune.api.progress import follow, in_notebook
from deeptune.errors import CheckpointError, DataError, RunStopped, SpecError
from deeptune.runs import RunState

SMALL = {"backbone": {"name": "resnet18", "weights": "random", "image_size": 32}, "train.device": "cpu"}


def heavy(code: str) -> set[str]:
    """Which of the large libraries a fresh process has loaded after some code."""
    names = ("torch", "transformers", "timm", "pandas", "pyarrow", "pydantic", "numpy", "rich", "sklearn")
    program = f"import sys\n{code}\nprint(*[name for name in {names!r} if name in sys.modules])"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_deeptune_loads_no_library():
    assert heavy("import deeptune; dir(deeptune); deeptune.__version__; deeptune.errors.DataError") == set()


def test_reading_a_spec_or_a_run_loads_no_torch():
    loaded = heavy("import deeptune\ndeeptune.RunSpec\ndeeptune.load_spec\ndeeptune.Run\ndeeptune.finetune")
    assert not loaded & {"torch", "transformers", "timm", "pandas", "sklearn"}


def test_every_name_is_there_and_an_unknown_one_is_an_attribute_error():
    assert all(getattr(deeptune, name) is not None for name in deeptune.__all__)
    assert set(deeptune.__all__) <= set(dir(deeptune))
    with pytest.raises(AttributeError, match="no attribute 'fine_tune'"):
        deeptune.fine_tune  # noqa: B018


def test_a_spec_comes_from_a_preset_a_file_a_dictionary_or_a_spec(tmp_path):
    spec = deeptune.load_spec("resnet50_partial", {"data.path": "a.parquet", "train": {"epochs": 3}})
    assert (spec.backbone.name, spec.data.path, spec.train.epochs) == ("resnet50", "a.parquet", 3)
    (tmp_path / "run.toml").write_text('data.path = "a.parquet"\nbackbone.name = "resnet18"\n')
    from_file = deeptune.load_spec(tmp_path / "run.toml")
    assert from_file == deeptune.load_spec({"data": {"path": "a.parquet"}, "backbone.name": "resnet18"})
    assert deeptune.load_spec(from_file) is from_file
    assert deeptune.load_spec(from_file, {"data.path": tmp_path}).data.path == str(tmp_path)


def test_a_wrong_spec_is_one_error_with_every_problem(tmp_path):
    with pytest.raises(SpecError, match=r"2 problems(?s:.*)tuning.method(?s:.*)train.epoch") as caught:
        deeptune.load_spec({"data.path": "a", "backbone.name": "resnet18", "train.epoch": 3, "tuning.method": "lor"})
    assert "--" not in str(caught.value)
    with pytest.raises(SpecError, match=r"changes: tuning.method: expected") as caught:
        deeptune.load_spec("resnet50_partial", {"data.path": "a", "tuning.method": "lor"})
    assert "--" not in str(caught.value)
    with pytest.raises(SpecError, match="there is no run spec 'resnet50_partail'"):
        deeptune.load_spec("resnet50_partail")
    with pytest.raises(SpecError, match="expected a RunSpec, a path, a preset's name or a dictionary, got an int"):
        deeptune.load_spec(3)


def test_a_run_in_a_process_of_its_own_is_watched_and_read(image_file, tmp_path, capfd):
    run = deeptune.finetune({**SMALL, "data.path": image_file(), "train.epochs": 2}, output=tmp_path / "runs")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert f"run {run.path}" in shown.err
    assert "epoch 2/2" in shown.err
    assert run.state == "done"
    assert repr(run) == f"Run({str(run.path)!r}, done)"
    assert run.metrics["test"]["n"] == len(run.predictions())
    assert run.result["test"]["accuracy"] == run.metrics["test"]["accuracy"]
    assert run.report.read_text().startswith("<!doctype html>")
    assert [event["epoch"] for event in run.events("epoch")] == [1, 2]
    epochs = run.events("epoch").to_pandas()
    assert epochs["val.loss"].notna().all()
    assert set(run.paths) >= {"spec", "events", "checkpoint", "metrics", "predictions", "report", "embeddings/test"}
    assert pq.read_table(run.paths["predictions"]).equals(run.predictions())
    assert run.embeddings("val").column_names[:3] == ["row", "label", "embedding"]
    assert len(run.splits()) == 24
    assert run.spec.train.epochs == 2
    assert deeptune.Run(run.path).id == deeptune.Run("latest", tmp_path / "runs").id == run.id
    assert run.wait(progress=False) is run
    assert run.resume() is run
    assert run.stop() is run


def test_a_detached_run_is_stopped_and_resumed(image_file, tmp_path):
    spec = {
        **SMALL,
        "backbone": {**SMALL["backbone"], "name": "mobilenet_v3_small"},
        "data.path": image_file(),
        "train.epochs": 2000,
        "train.early_stopping.patience": 0,
        "tuning.method": "full",
    }
    run = deeptune.finetune(spec, output=tmp_path / "runs", detach=True)
    assert deeptune.Run(run.path).status["state"] != "done"
    with pytest.raises(TimeoutError, match=f"{run.id} is "):
        run.wait(0.1, progress=False)
    with pytest.raises(CheckpointError, match=r"has no report.html \(yet\)"):
        run.report  # noqa: B018
    while not run.events("step"):
        pass
    assert run.stop(60).state == "stopped"
    with pytest.raises(RunStopped):
        run.wait(progress=False)
    before = len(run.events("resume"))
    run.resume(detach=True)
    while len(run.events("resume")) == before:
        pass
    assert run.stop(60).state == "stopped"


def test_what_ends_a_run_is_raised(image_file, tmp_path):
    file = image_file(labels=["only"] * 24)
    with pytest.raises(DataError, match="only one class"):
        deeptune.finetune({**SMALL, "data.path": file}, output=tmp_path / "runs", progress=False)
    assert deeptune.Run("latest", tmp_path / "runs").state == "failed"


def test_a_run_may_be_done_in_a_thread_of_this_process(image_file, tmp_path):
    found = []

    def work() -> None:
        spec = {**SMALL, "data.path": image_file(), "train.epochs": 1}
        found.append(deeptune.finetune(spec, output=tmp_path / "runs", in_process=True, progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].state == "done"


def test_the_two_ways_to_run_exclude_each_other():
    with pytest.raises(SpecError, match="detach and in_process exclude each other"):
        deeptune.finetune({}, detach=True, in_process=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    colours = [(200, 30, 30), (30, 30, 200)]
    table = {"images": [png(colour=colours[row % 2]) for row in range(24)], "labels": ["<red>", "blue"] * 12}
    pq.write_table(pa.table(table), folder / "images.parquet")
    spec = {**SMALL, "data.path": folder / "images.parquet", "train.epochs": 4}
    return deeptune.finetune(spec, output=folder / "runs", in_process=True, progress=False)


def test_a_notebook_shows_the_metrics_and_the_files_of_a_run_that_is_done(finished):
    html = finished._repr_html_()
    assert f"✓ {finished.id}" in html
    assert "Accuracy" in html
    assert "predictions.parquet" in html


def test_a_notebook_shows_the_dashboard_and_the_curve_of_a_run_that_stopped(finished):
    result = json.loads(finished.directory.result.read_text())
    finished.directory.result.write_text(json.dumps({**result, "state": "stopped"}))
    try:
        html = finished._repr_html_()
    finally:
        finished.directory.result.write_text(json.dumps(result))
    assert "stopped" in html
    assert "<polyline" in html
    assert "<script" not in html


def test_a_notebook_keeps_one_picture_up_to_date(finished, monkeypatch):
    shown = []

    class Handle:
        def update(self, picture):
            shown.append(("update", picture))

    def display(picture, *, display_id):
        shown.append(("display", picture))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("deeptune.api.progress.in_notebook", lambda: True)
    monkeypatch.setattr(RunState, "over", property(lambda state: len(shown) > 1))
    monkeypatch.setattr("deeptune.api.progress.NOTEBOOK_INTERVAL", 0)
    assert finished.wait() is finished
    assert [what for what, _ in shown] == ["display", "update"]
    assert finished.id in repr(shown[0][1])
    assert finished.id in shown[1][1]._repr_html_()


def test_no_notebook_is_seen_where_there_is_none():
    assert not in_notebook()


def test_an_interrupt_stops_the_run_with_a_checkpoint(image_file, tmp_path, monkeypatch):
    watched = []

    def interrupted(directory, **options):
        watched.append(directory)
        if len(watched) > 1:
            return follow(directory, **options)
        while not deeptune.Run(directory).events("step"):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr("deeptune.api.run.follow", interrupted)
    long = {"train.epochs": 2000, "train.early_stopping.patience": 0}
    with pytest.raises(KeyboardInterrupt):
        deeptune.finetune({**SMALL, **long, "data.path": image_file()}, output=tmp_path / "runs")
    run = deeptune.Run(watched[0])
    assert run.state == "stopped"
    assert run.directory.last.exists()
