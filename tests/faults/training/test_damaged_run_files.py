"""Checkpoints and logs that are damaged, and what changed between a run and its resume."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from faults.killing import same_outcome
from faults.small_runs import LONG, finish, stopped_run, warnings_of

from deeptune.checkpoint import previous
from deeptune.engine.run import execute
from deeptune.errors import DataError, SpecError, WeightsError
from deeptune.runs import read_records
from deeptune.spec import load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 255
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "how"), [("training.safetensors", "cut"), ("model.safetensors", "flipped"), ("manifest.json", "cut")]
)
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(left_alone, tmp_path, file, how, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    damage(run.last / file, how)
    finish(run)
    (told,) = [warning for warning in warnings_of(run) if "training continues from the checkpoint before it" in warning]
    assert file in told
    same_outcome(left_alone, run)


def test_with_no_whole_checkpoint_left_training_starts_again_and_says_so(left_alone, tmp_path, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    for folder in (run.last, previous(run.last)):
        damage(folder / "training.safetensors", "flipped")
    finish(run)
    assert any("training starts again from its first step" in warning for warning in warnings_of(run))
    same_outcome(left_alone, run)


def test_a_damaged_best_checkpoint_is_never_reported(left_alone, tmp_path, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    damage((run.best if run.best.exists() else previous(run.best)) / "model.safetensors", "flipped")
    finish(run)
    same_outcome(left_alone, run)


def test_a_damaged_event_log_costs_the_damaged_lines_only(left_alone, tmp_path, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    lines = run.events.read_bytes().split(b"\n")
    lines[3] = b'{"v":1,"seq":\xff\xfe broken'
    lines[5] = b"\x00" * 400
    run.events.write_bytes(b"\n".join(lines)[:-30])
    finish(run)
    same_outcome(left_alone, run)
    sequence = [event["seq"] for event in read_records(run.events)]
    assert sequence == sorted(set(sequence))
    assert read_records(run.events)[-1]["state"] == "done"


# What changed since.
def test_a_changed_run_is_refused_with_the_difference(tmp_path, spec_of):
    spec = spec_of(**LONG).model_dump()
    table, data = pq.read_table(spec["data"]["path"]), tmp_path / "data.parquet"
    pq.write_table(table, data)
    spec["data"]["path"] = str(data)
    run = stopped_run(tmp_path, validate(spec))
    kept = run.spec.read_text()

    run.spec.write_text(kept.replace("epochs = 8", "epochs = 9"))
    with pytest.raises(SpecError) as caught:
        execute(load_spec(run.spec), run)
    assert "train.epochs: 8 when it started, 9 now" in caught.value.message
    assert "with force" in caught.value.hint
    run.spec.write_text(kept)

    record = json.loads(run.run.read_text())
    changed = {**record, "fingerprints": {**record["fingerprints"], "backbone": "sha256:" + "0" * 64}}
    run.run.write_text(json.dumps(changed))
    with pytest.raises(WeightsError, match="backbone: this is not the run that was started: the weights changed"):
        execute(load_spec(run.spec), run)
    run.run.write_text(json.dumps(record))

    pq.write_table(table.slice(0, table.num_rows - 1), data)
    with pytest.raises(DataError, match="data: this is not the run that was started: the contents of its files"):
        execute(load_spec(run.spec), run)
    assert run.last.exists()

    result = execute(load_spec(run.spec), run, force=True)
    assert result["state"] == "done"
    attempt = json.loads(run.run.read_text())["attempts"][-1]
    assert len(attempt["overridden"]) == 1
    assert "the contents of its files changed" in attempt["overridden"][0]
    assert any(warning.startswith("resumed with force: data") for warning in warnings_of(run))


def test_data_that_vanished_is_told_and_nothing_is_lost(left_alone, tmp_path, spec_of):
    spec = spec_of(**LONG).model_dump()
    data, away = tmp_path / "data.parquet", tmp_path / "away"
    data.write_bytes(Path(spec["data"]["path"]).read_bytes())
    spec["data"]["path"] = str(data)
    run = stopped_run(tmp_path, validate(spec))
    data.rename(away)
    with pytest.raises(DataError, match=r"data\.path: there is no file or folder"):
        execute(load_spec(run.spec), run)
    away.rename(data)
    finish(run)
    same_outcome(left_alone, run)
