"""Identical samples: found, told, scored without, and kept in one split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png

from deeptune.data.splits.duplicates import conflicting, duplicate_sets, kept_together, twins
from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.run_spec import RunSpec

small = st.integers(0, 6)


def hashes(values) -> np.ndarray:
    return np.array(values, np.uint64)


@given(st.lists(small), st.lists(small))
def test_twins_are_those_of_the_same_hash_that_is_not_0(some, others):
    assert twins(hashes(some), hashes(others)).tolist() == [one != 0 and one in others for one in some]


@given(st.lists(small))
def test_identical_samples_share_a_number(some):
    sets = duplicate_sets(hashes(some)).tolist()
    for one, number in zip(some, sets, strict=True):
        assert (number > 0) == (one != 0 and some.count(one) > 1)
    assert len(set(sets) - {0}) == len({one for one in some if one and some.count(one) > 1})


@given(st.lists(st.tuples(small, st.integers(0, 1))))
def test_a_conflict_is_the_same_sample_with_another_label(rows):
    sets = duplicate_sets(hashes([one for one, _ in rows]))
    found = conflicting(sets, np.array([label for _, label in rows], np.int64)).tolist()
    assert found == [one != 0 and (one, 1 - label) in rows for one, label in rows]


@settings(deadline=None)  # the first call imports scipy.sparse
@given(st.lists(st.tuples(small, small), min_size=1))
def test_rows_that_are_linked_by_group_or_twin_are_kept_together(rows):
    codes = kept_together(hashes([one for one, _ in rows]), np.array([group for _, group in rows], np.int64))
    for at, (one, group) in enumerate(rows):
        for other, (another, of_group) in enumerate(rows):
            if group == of_group or (one == another != 0):
                assert codes[at] == codes[other]
    # and no others: the graph of links has as many parts as there are codes
    parts = list(range(len(rows)))
    for at, (one, group) in enumerate(rows):
        for other, (another, of_group) in enumerate(rows):
            if group == of_group or (one == another != 0):
                parts = [parts[at] if part == parts[other] else part for part in parts]
    assert len(set(codes.tolist())) == len(set(parts))


def test_unique_samples_without_groups_need_none():
    assert kept_together(hashes([1, 2, 0, 0]), None) is None
    assert len(set(kept_together(hashes([1, 2, 1, 0, 0]), None).tolist())) == 4


# --- in a plan -----------------------------------------------------------------------------------------


def write(path, **columns) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def plan(task="classification", **data):
    return plan_data(RunSpec.model_validate({"task": task, "data": data, "backbone": {"name": "any"}}))


def pairs(n: int = 60) -> dict:
    """Every text twice, with the same label."""
    return {"text": [f"text {row // 2}" for row in range(n)], "labels": [(row // 2) % 2 for row in range(n)]}


def test_rows_with_a_twin_in_training_are_counted_and_named(tmp_path):
    found = plan(path=write(tmp_path / "a.parquet", **pairs()))
    train = set(found.splits["train"].rows.tolist())
    for split in ("val", "test"):
        rows = [row for row in found.splits[split].rows.tolist() if (row ^ 1) in train]
        assert rows
        assert found.doubtful(split)["duplicates"].tolist() == rows
        (warning,) = (text for text in found.warnings if f"{split} rows are identical to a training row" in text)
        assert warning.startswith(f"{len(rows)} of {len(found.splits[split])} {split} rows")
        assert f"row {rows[0]}" in warning
        assert 'data.duplicates = "group"' in warning
    assert not found.doubtful("train")


def test_images_are_compared_by_their_bytes(tmp_path):
    images = [png(colour=(row // 2, 0, 0)) for row in range(60)]
    struct = pa.array([{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)])
    found = plan(path=write(tmp_path / "a.parquet", images=struct, labels=pairs()["labels"]))
    assert "duplicates" in found.doubtful("test")


def test_samples_that_differ_are_not_mentioned(tmp_path):
    texts = [f"text {row}" for row in range(60)]
    found = plan(path=write(tmp_path / "a.parquet", text=texts, labels=[0, 1] * 30))
    assert not any("identical" in warning for warning in found.warnings)
    assert "duplicate_set" not in found.splits_table().column_names


def test_the_table_of_splits_numbers_identical_samples(tmp_path):
    columns = pairs(40)
    columns["text"][7] = "alone"
    table = plan(path=write(tmp_path / "a.parquet", **columns)).splits_table().to_pylist()
    sets = {row["row"]: row["duplicate_set"] for row in table}
    assert sets[6] is sets[7] is None
    assert all(sets[row] == sets[row ^ 1] for row in range(40))
    assert len(set(sets.values())) == 20


def test_group_keeps_twins_in_one_split(tmp_path):
    found = plan(path=write(tmp_path / "a.parquet", **pairs(100)), duplicates="group")
    for data in found.splits.values():
        assert {row ^ 1 for row in data.rows.tolist()} == set(data.rows.tolist())
    assert [len(data) for data in found.splits.values()] == pytest.approx([70, 10, 20], abs=2)
    assert not any("identical" in warning for warning in found.warnings)


def test_group_and_patients_are_kept_together_by_union(tmp_path):
    # patients of 3 rows, and texts that the last row of a patient shares with the first of the next one, in pairs
    patients = [row // 3 for row in range(120)]
    texts = [f"shared {row // 6}" if row % 6 in (2, 3) else f"text {row}" for row in range(120)]
    file = write(tmp_path / "a.parquet", text=texts, labels=[0, 1] * 60, patient=patients)
    found = plan(path=file, group="patient", duplicates="group")
    sides = [{row // 6 for row in data.rows.tolist()} for data in found.splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20


def test_twins_in_two_files_cannot_be_grouped(tmp_path):
    train = write(tmp_path / "train.parquet", **pairs(40))
    test = write(tmp_path / "test.parquet", text=["new", "text 3"], labels=[0, 1])
    with pytest.raises(DataError) as caught:
        plan(train=train, test=test, duplicates="group")
    assert caught.value.message == (
        "data.duplicates: 1 of 2 rows of data.test are identical to a row of data.train: row 1"
    )
    found = plan(train=train, test=test)
    assert found.doubtful("test")["duplicates"].tolist() == [1]
    assert any("leave them out of data.test" in warning for warning in found.warnings)


def test_identical_samples_with_different_labels_are_told(tmp_path):
    columns = {"text": [f"text {row}" for row in range(60)], "labels": [0, 1] * 30}
    columns["text"][10] = columns["text"][21] = "the same"
    found = plan(path=write(tmp_path / "a.parquet", **columns))
    (warning,) = (text for text in found.warnings if "with a different label" in text)
    assert warning.startswith("2 rows are identical to another row with a different label")
    assert "row 10" in warning
    assert "row 21" in warning


def test_samples_that_cannot_be_used_are_no_twins(tmp_path):
    texts = [" " if row % 3 == 0 else f"text {row}" for row in range(60)]
    file = write(tmp_path / "a.parquet", text=texts, labels=[0, 1] * 30)
    for policy in ("skip", "blank"):
        assert not any("identical" in warning for warning in plan(path=file, on_bad_sample=policy).warnings)
