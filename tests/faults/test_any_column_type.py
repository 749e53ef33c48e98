"""A column of any Arrow type is carried through row by row, or refused before there is any training."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
import pytest
from columns_of import EXTENSIONS, LEAVES, column_of, kinds, values_of
from faults.columns_in_runs import LABELS, PATIENTS, ROWS, TEXTS, embeddings_of, planned, spec_of, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError

SAFE = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 99)


def is_written(column: pa.Array) -> bool:
    """Whether Arrow itself writes a column: not yet all that have views within."""
    try:
        pq.write_table(pa.table({"it": column}), io.BytesIO())
    except pa.ArrowNotImplementedError:
        return False
    return True


@SAFE
@given(
    kind=kinds(),
    role=st.sampled_from(["kept", "kept", "kept", "label", "number", "group", "input"]),
    small=st.sampled_from([400, 2**26]),  # pieces of a few rows, or what is in memory as a whole
    seed=seeds,
)
def test_a_column_of_any_type_is_carried_row_by_row_or_refused_before_training(
    tmp_path_factory, kind, role, small, seed
):
    folder = tmp_path_factory.mktemp("any")
    few = {"label": 3, "group": 6}.get(role, 100)
    it = column_of(kind, ROWS, np.random.default_rng(seed), nulls=role != "group", distinct=few)
    file = write(folder / "a.parquet", {"text": TEXTS, "it": it, "labels": LABELS}, row_group_size=13)
    given_values = values_of(pq.read_table(file)["it"])
    data = {"kept": {}, "number": {"label": "it"}}.get(role, {role: "it"})
    task = "regression" if role == "number" else "classification"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeptune.data.sources.source.SMALL", small)
        plan = planned(spec_of(file, task=task, on_bad_sample="skip", **data))
        if isinstance(plan, DataError):
            assert role != "kept", plan.message
            assert "it" in plan.message or "data.split" in plan.message
            return
        pq.write_table(plan.splits_table(), folder / "splits.parquet")
        for split in plan.splits.values():
            found = embeddings_of(split.source, folder / "e.parquet", split.rows, label=plan.label, input=plan.input)
            assert found["row"].to_pylist() == split.rows.tolist()
            expected = [given_values[row] for row in split.rows]
            if plan.input != "it":
                assert values_of(found["label" if plan.label == "it" else "it"]) == expected
            if role in ("label", "number"):
                by_value: dict[str, set[str]] = {}  # a label or target may be a list
                for value, target in zip(expected, split.targets.tolist(), strict=True):
                    by_value.setdefault(repr(value), set()).add(repr(target))
                assert all(len(targets) == 1 for targets in by_value.values())
    if role == "group":
        where: dict[Any, set[str]] = {}
        for row in pq.read_table(folder / "splits.parquet", columns=["row", "split"]).to_pylist():
            where.setdefault(repr(given_values[row["row"]]), set()).add(row["split"])
        assert all(len(splits) == 1 for splits in where.values())


def opened(folder: Path) -> Source | DataError:
    try:
        return open_source(str(folder))
    except DataError as error:
        return error


def variants(kind: pa.DataType) -> list[pa.DataType]:
    """Types in which another shard of the same data may have a column."""
    found = [kind, pa.null()]
    if pt.is_integer(kind):
        found += [pa.int64(), pa.int8(), pa.float64()]
    if pt.is_decimal(kind):
        found += [pa.decimal128(30, 5), pa.float64()]
    if pt.is_string(kind) or pt.is_binary(kind):
        found += [pa.dictionary(pa.int32(), kind), pa.large_string(), pa.string_view(), pa.binary()]
    if pt.is_timestamp(kind):
        found += [pa.timestamp("us"), pa.timestamp("ns")]
    if pt.is_list(kind):
        found += [pa.large_list(kind.value_type), pa.list_(pa.null())]
    if pt.is_struct(kind):
        found += [pa.struct([kind.field(1), kind.field(0)]), pa.struct([kind.field(0), ("more", pa.int8())])]
    if isinstance(kind, pa.BaseExtensionType):
        found += [kind.storage_type]
    return found


@SAFE
@given(kind=kinds(), data=st.data(), seed=seeds)
def test_files_whose_types_differ_are_one_table_with_every_value_or_refused(tmp_path_factory, kind, data, seed):
    folder = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(seed)
    other = data.draw(st.sampled_from(variants(kind)))
    given_values = []
    for name, one in zip("ab", data.draw(st.permutations([kind, other])), strict=True):
        it = column_of(one, ROWS // 2, random)
        file = write(folder / f"{name}.parquet", {"text": TEXTS[: ROWS // 2], "it": it})
        given_values += values_of(pq.read_table(file)["it"])
    source = opened(folder)
    if isinstance(source, DataError):
        assert kind != other
        assert "column 'it' is " in source.message
        assert "a.parquet" in source.message
        assert "b.parquet" in source.message
        return
    if "it" in source.refused:
        assert kind != other
        assert source.notes == (f"{source.refused['it'].message.removeprefix('data.path: ')}, so it is left out",)
        with pytest.raises(DataError, match=r"column 'it' is .*a\.parquet.*b\.parquet"):
            source.column("it")
        return
    found = values_of(embeddings_of(source, folder / "e.parquet", np.arange(ROWS), label=None, input="text")["it"])
    if kind != other and any(isinstance(value, float) for value in found):  # decimals in one of the files
        given_values = [float(value) if isinstance(value, Decimal) else value for value in given_values]
    assert list(map(same, found)) == list(map(same, given_values))


def same(value: Any) -> Any:
    """A value as it is in every type that it may be promoted to."""
    if isinstance(value, dict):
        return {name: same(inside) for name, inside in sorted(value.items()) if inside is not None}
    if isinstance(value, list):
        return [same(inside) for inside in value]
    if isinstance(value, str):
        return value.encode()
    return value


# What a person sees of it: the commands.


@pytest.fixture
def run(command, tiny_bert):
    """`run(file, "--set", ...)` trains the head of a tiny backbone for texts."""
    settings = ["--set", f"backbone.name=hf:{tiny_bert}", "--set", "train.epochs=1", "--set", "train.device=cpu"]

    def call(file: Path | str, *arguments: str):
        return command("run", "--data", str(file), *settings, *arguments, "--plain", "--foreground", "--output", "out")

    return call


def test_a_run_carries_a_column_of_every_type_row_by_row(run, tmp_path):
    random = np.random.default_rng(0)
    every = {str(kind): kind for kind in [*LEAVES, *EXTENSIONS]}
    every |= {f"list {name}": pa.list_(kind) for name, kind in every.items()}
    every |= {f"struct {name}": pa.struct([("a", kind)]) for name, kind in every.items() if "list" not in name}
    every["words"] = pa.dictionary(pa.int8(), pa.string())
    every["words in a map"] = pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.binary()))
    table = {name: column_of(kind, ROWS, random) for name, kind in every.items()}
    table = {name: column for name, column in table.items() if is_written(column)}
    assert len(table) > 150
    file = write(tmp_path / "every.parquet", {"text": TEXTS, "labels": LABELS, "row": range(ROWS), **table})
    assert run(file, "--dry-run").code == 0
    done = run(file)
    assert done.code == 0, done.stderr
    given_table = pq.read_table(file)
    for name in ("train", "val", "test"):
        (written,) = (tmp_path / "out").glob(f"*/embeddings/{name}.parquet")
        found = pq.read_table(written)
        rows = found["row"].to_pylist()
        assert found["row_in_source"].to_pylist() == rows
        for column in table:
            expected = values_of(given_table[column])
            assert values_of(found[column]) == [expected[row] for row in rows], column


def test_a_run_with_groups_by_uuid_has_its_report(run, tmp_path):
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": LABELS, "who": PATIENTS})
    done = run(file, "--set", "data.group=who")
    assert done.code == 0, done.stderr
    assert "could not be written" not in done.stdout + done.stderr
    assert len(list(tmp_path.glob("out/*/report.html"))) == 1


def twice(name: str) -> pa.Table:
    columns = [pa.array(TEXTS), pa.array(LABELS), pa.array(range(ROWS)), pa.array(range(ROWS))]
    return pa.Table.from_arrays(columns, names=["text", "labels", name, name])


REFUSED = {
    "a name twice": (twice("value"), [], "has 2 columns named 'value'"),
    "uuid labels": (
        pa.table({"text": TEXTS, "labels": PATIENTS}),
        [],
        "data.label: column 'labels' holds values of type arrow.uuid, and classes are integers, strings or booleans",
    ),
    "lists as groups": (
        pa.table({"text": TEXTS, "labels": LABELS, "who": [[row] for row in range(ROWS)]}),
        ["--set", "data.group=who"],
        "data.group: column 'who' holds list<element: int64>",
    ),
    "lists as input": (
        pa.table({"it": [[{"bytes": b"x", "path": None}]] * ROWS, "labels": LABELS}),
        ["--set", "data.input=it"],
        "data.input: column 'it' of",
    ),
    "bytes that are not text": (
        pa.table({"text": [b"\xff\xfe"] * ROWS, "labels": LABELS}), [], "row 0 is not UTF-8 text",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("table", "settings", "said"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_refused_is_refused_by_the_dry_run_too_and_before_training(run, tmp_path, table, settings, said):
    pq.write_table(table, tmp_path / "a.parquet")
    for arguments in (settings, [*settings, "--dry-run"]):
        refused = run(tmp_path / "a.parquet", *arguments)
        assert refused.code == 3
        assert said in " ".join(refused.stderr.split())
    assert not list(tmp_path.glob("out/*/checkpoints/best"))


def test_embed_refuses_a_name_that_is_there_twice_before_anything_passes(command, tmp_path, tiny_bert):
    pq.write_table(twice("value"), tmp_path / "a.parquet")
    refused = command(
        "embed", "--backbone", f"hf:{tiny_bert}", "--data", "a.parquet", "--output", "e.parquet", "--device", "cpu"
    )
    assert refused.code == 3
    assert "has 2 columns named 'value'" in refused.stderr
    assert not (tmp_path / "e.parquet").exists()
