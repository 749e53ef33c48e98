"""A column of any Arrow type is carried through, or refused before there is any training."""

from __future__ import annotations

import datetime
import io
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
import pytest
from columns_of import EXTENSIONS, LEAVES, column_of, kinds, values_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pictures import png
from unit.conftest import _words

from deeptune.data.inspect import overview, preview, survey
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.data.sources import column_stream
from deeptune.data.sources.source import Source
from deeptune.data.splits.plan import DataPlan
from deeptune.data.splits.planner import draft_plan, plan_data
from deeptune.engine import writers
from deeptune.engine.inference import Outputs
from deeptune.engine.row_order import windows
from deeptune.errors import DataError
from deeptune.spec.toml import validate

ROWS = 36
TEXTS = ["a good film", "bad", "a bad film"] * (ROWS // 3)
LABELS = ["good", "bad", "bad"] * (ROWS // 3)
PATIENTS = pa.ExtensionArray.from_storage(
    pa.uuid(), pa.array([uuid.UUID(int=row // 2).bytes for row in range(ROWS)], pa.binary(16))
)
SAFE = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 99)


def write(path: Path | str, table: dict[str, Any], **options: Any) -> Path:
    """A file, or no example where Arrow itself writes no such column."""
    try:
        pq.write_table(pa.table(table), path, **options)
    except (OSError, ValueError, NotImplementedError, pa.ArrowException):
        assume(False)
    return Path(path)


def is_written(column: pa.Array) -> bool:
    """Whether Arrow itself writes a column: not yet all that have views within."""
    try:
        pq.write_table(pa.table({"it": column}), io.BytesIO())
    except pa.ArrowNotImplementedError:
        return False
    return True


def spec_of(path: Path | str, *, task: str = "classification", **data: Any):
    return validate({"task": task, "data": {"path": str(path), **data}, "backbone": {"name": "resnet18"}})


def embeddings_of(source: Source, path: Path, rows: np.ndarray, *, label: str | None, input: str) -> pa.Table:
    """The table of embeddings that a run writes of some rows."""
    model = SimpleNamespace(last_layer=SimpleNamespace(in_features=2, out_features=1))
    found = [Outputs(rows, np.zeros((len(rows), 1), np.float32), np.zeros((len(rows), 2), np.float32))]
    with writers.embedding_file(path, source, writers.Roles(input, label)) as write_window:
        for window in windows(found, rows, model, embed=True, size=7):
            write_window(window)
    return pq.read_table(path)


def planned(spec) -> DataPlan | DataError:
    """What a dry run makes of the data, which is what the run makes of it."""
    try:
        dry: Any = plan_data(spec)
    except DataError as error:
        dry = error
    try:
        draft = draft_plan(spec)
        if draft.modality == "text":
            preprocessing = TextPreprocessing(_words(special=True), 16, 0)
            samples = {source: open_samples(source, draft.input, preprocessing) for source, _ in draft.sources(None)}
            run: Any = draft.finish(lambda source, rows: samples[source].bad(rows))
        else:
            run = dry
    except DataError as error:
        run = error
    assert type(dry) is type(run)
    if isinstance(dry, DataError):
        assert dry.message == run.message
    else:
        assert dry.bad_samples == run.bad_samples
    return dry


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
        return Source.open(str(folder))
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
    found = values_of(embeddings_of(source, folder / "e.parquet", np.arange(ROWS), label=None, input="text")["it"])
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
    "bytes that are no text": (
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


# Single kinds.


def plan_of(tmp_path: Path, **given_columns: Any) -> DataPlan:
    data = given_columns.pop("data", {})
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": LABELS, **given_columns})
    return plan_data(spec_of(file, **data))


def test_groups_by_uuid_stay_together_and_stay_uuids(tmp_path):
    plan = plan_of(tmp_path, who=PATIENTS, data={"group": "who"})
    found = plan.splits_table()
    assert found.schema.field("group").type == pa.uuid()
    where: dict[int, set[str]] = {}
    for row, split in zip(found["row"].to_pylist(), found["split"].to_pylist(), strict=True):
        where.setdefault(row // 2, set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())


@pytest.mark.parametrize(
    "groups",
    [
        pa.array([2**63 + row // 2 for row in range(ROWS)], pa.uint64()),
        pa.array([f"1{'0' * 20}.{row // 2:02}" for row in range(ROWS)]).cast(pa.decimal128(38, 2)),
        pa.array([10**18 + row // 2 for row in range(ROWS)], pa.timestamp("ns")),
    ],
    ids=["uint64", "decimal", "nanoseconds"],
)
def test_groups_that_are_alike_as_floating_point_numbers_are_told_apart(tmp_path, groups):
    plan = plan_of(tmp_path, who=groups, data={"group": "who"})
    assert len(plan.splits_table()["group"].unique()) == ROWS // 2


def test_a_group_in_two_files_of_different_types_is_known(tmp_path):
    for name, kind in (("train", pa.int32()), ("test", pa.int64())):
        who = pa.array([row // 2 for row in range(ROWS)], kind)
        write(tmp_path / f"{name}.parquet", {"text": TEXTS, "labels": LABELS, "who": who})
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "test")}
    spec = validate({"data": {**paths, "group": "who"}, "backbone": {"name": "resnet18"}})
    with pytest.raises(DataError, match=r"groups that are in data\.test and in data\.train: 0, 1, 2"):
        plan_data(spec)


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([label.encode() for label in LABELS], ("bad", "good")),
        (pa.array([label.encode() for label in LABELS]).dictionary_encode(), ("bad", "good")),
        (pa.array([b"abc", b"xyz"] * (ROWS // 2), pa.binary(3)), ("abc", "xyz")),
        (pa.array([row % 2 for row in range(ROWS)], pa.decimal128(38, 0)), (0, 1)),
        (pa.array([row % 2 for row in range(ROWS)], pa.uint64()), (0, 1)),
    ],
    ids=["binary", "dictionary of binary", "fixed size", "decimal", "uint64"],
)
def test_labels_are_what_their_values_mean(tmp_path, labels, values):
    assert plan_of(tmp_path, labels=labels).task.values == values


def test_decimals_are_numbers(tmp_path):
    labels = pa.array([f"{row}.25" for row in range(ROWS)]).cast(pa.decimal128(12, 2))
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": labels})
    plan = plan_data(spec_of(file, task="regression"))
    targets = np.concatenate([split.targets for split in plan.splits.values()])
    assert sorted(targets) == [row + 0.25 for row in range(ROWS)]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())], ids=str
)
def test_text_in_bytes_is_text(tmp_path, kind):
    texts = pa.array([text.encode() for text in TEXTS])
    texts = texts.dictionary_encode() if pt.is_dictionary(kind) else texts.cast(kind)
    for name in ("text", "review"):
        file = write(tmp_path / "a.parquet", {name: texts, "labels": LABELS})
        plan = planned(spec_of(file, input=name))
        assert (plan.modality, plan.bad_samples) == ("text", [])


def test_bytes_of_which_some_are_no_text_are_told_by_row(tmp_path):
    texts = [*(text.encode() for text in TEXTS[:-1]), "café".encode("latin-1")]
    file = write(tmp_path / "a.parquet", {"text": texts, "labels": LABELS})
    plan = planned(spec_of(file, on_bad_sample="skip"))
    assert [(bad.row, bad.reason) for bad in plan.bad_samples] == [(ROWS - 1, "is not UTF-8 text")]


@pytest.mark.parametrize("layout", ["dictionary", "large", "view", "struct of views", "dictionary in a struct"])
def test_pictures_in_any_layout_of_bytes_are_pictures(tmp_path, layout):
    pictures = pa.array([png(colour=[(200, 30, 30), (30, 30, 200)][row % 2]) for row in range(ROWS)])
    encoded = pictures.dictionary_encode()
    images = {
        "dictionary": encoded,
        "large": pictures.cast(pa.large_binary()),
        "view": pictures.cast(pa.binary_view()),
        "struct of views": pa.StructArray.from_arrays([pictures.cast(pa.binary_view())], names=["bytes"]),
        "dictionary in a struct": pa.StructArray.from_arrays([encoded], names=["bytes"]),
    }[layout]
    file = write(tmp_path / "a.parquet", {"images": images, "labels": LABELS})
    plan = plan_data(spec_of(file))
    assert (plan.modality, plan.bad_samples) == ("image", [])


@pytest.mark.parametrize("named", [False, True], ids=["bytes", "files"])
def test_what_else_a_struct_holds_does_not_matter(tmp_path, named):
    pictures = [png(colour=[(200, 30, 30), (30, 30, 200)][row % 2]) for row in range(ROWS)]
    for row, picture in enumerate(pictures):
        (tmp_path / f"{row}.png").write_bytes(picture)
    images = pa.StructArray.from_arrays(
        [
            pa.nulls(ROWS) if named else pa.array(pictures),
            pa.array([f"{row}.png" for row in range(ROWS)], pa.string_view()),
            pa.array(range(1, ROWS + 1), pa.timestamp("ns")),
            pa.array([10**7] * ROWS, pa.date32()),
        ],
        names=["bytes", "path", "taken", "due"],
    )
    file = write(tmp_path / "a.parquet", {"images": images, "labels": LABELS})
    plan = plan_data(spec_of(file))
    assert (plan.modality, plan.bad_samples) == ("image", [])
    assert preview(str(file), "images", "labels", start=1, count=1)[0].image == pictures[1]


# Several files.


def shards(folder: Path, *its: Any) -> Source:
    for at, it in enumerate(its):
        write(folder / f"{at}.parquet", {"it": it})
    return Source.open(str(folder))


@pytest.mark.parametrize(
    ("one", "other", "values"),
    [
        (["checked"], pa.nulls(2), ["checked", None, None]),
        (pa.nulls(1), pa.array(["x"]).dictionary_encode(), [None, "x"]),
        (["a"], pa.array(["b"]).dictionary_encode(), ["a", "b"]),
        (["a"], pa.array(["b"], pa.string_view()), ["a", "b"]),
        ([{"a": "x"}], pa.array([{"a": "y"}], pa.struct([("a", pa.large_string())])), [{"a": "x"}, {"a": "y"}]),
        (pa.array([1], pa.int32()), [2**40], [1, 2**40]),
        ([1, 2], [0.5, None], [1.0, 2.0, 0.5, None]),
        ([[1]], pa.array([[2]], pa.large_list(pa.int8())), [[1], [2]]),
    ],
)
def test_shards_whose_types_differ_without_loss_are_one_table(tmp_path, one, other, values):
    source = shards(tmp_path, one, other)
    assert source.column("it").to_pylist() == values
    assert source.take("it", np.arange(len(values))[::-1]).to_pylist() == values[::-1]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([2**53 + 1], [0.5], "is int64 in {0} and double in {1}, and as double some values would change"),
        (
            pa.array([2**63], pa.uint64()),
            [1],
            "is uint64 in {0} and int64 in {1}, and as int64 some values would change",
        ),
        ([1], ["1"], "is int64 in {0} and string in {1}"),
        ([True], [1], "is bool in {0} and int64 in {1}"),
        (
            [datetime.datetime(9999, 12, 31)],
            pa.array([1], pa.timestamp("ns")),
            "is timestamp[us] in {0} and timestamp[ns] in {1}, and as timestamp[ns] some values would change",
        ),
    ],
)
def test_shards_whose_types_would_lose_values_are_refused(tmp_path, one, other, said):
    with pytest.raises(DataError) as caught:
        shards(tmp_path, one, other)
    said = said.format(tmp_path / "0.parquet", tmp_path / "1.parquet")
    assert caught.value.message == f"data.path: column 'it' {said}"


# Dates.


def test_dates_of_the_old_kind_are_read_in_a_unit_that_reaches_them(tmp_path):
    far, near = datetime.datetime(9999, 12, 31, 23, 59, 59, 5), datetime.datetime(2020, 1, 1)
    for name, dates in (("far", [far, None, near]), ("near", [near])):
        table = pa.table({"it": dates, "nested": [[date] for date in dates]})
        pq.write_table(table, tmp_path / f"{name}.parquet", use_deprecated_int96_timestamps=True)
    one, both = Source.open(str(tmp_path / "near.parquet")), Source.open(str(tmp_path))
    assert one.types["it"] == pa.timestamp("ns")
    assert both.column("it").to_pylist() == [far, None, near, near]
    assert both.column("nested").to_pylist() == [[far], [None], [near], [near]]


def test_a_person_sees_values_that_python_has_no_type_for(tmp_path):
    days = pa.array([10**7, 3] * (ROWS // 2), pa.date32())
    moments = pa.array(range(ROWS), pa.timestamp("ns"))
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": days, "at": moments})
    assert [sample.label for sample in preview(str(file), "text", "labels", start=0, count=2)] == [
        "29349-01-26", "1970-01-04",
    ]  # fmt: skip
    assert preview(str(file), "text", "at", start=1, count=1)[0].label == "1970-01-01 00:00:00.000000001"


# The look at a file.


def test_the_look_at_a_file_takes_columns_as_the_run_does(tmp_path):
    table = {
        "review": [text.encode() for text in TEXTS],
        "kind": [label.encode() for label in LABELS],
        "patient": PATIENTS,
    }
    file = write(tmp_path / "a.parquet", table)
    found = overview(str(file))
    assert [column.modality for column in found.columns] == ["text", "text", None]
    assert found.guesses == {"data.input": "review", "data.label": "kind"}
    assert found.groups == ["patient"]
    assert preview(str(file), "review", "kind", start=1, count=1)[0].text == "bad"
    looked = survey(spec_of(file, input="review", label="kind", group="patient"))
    assert [name for name, *_ in looked.classes] == ["bad", "good"]


# Many columns.


def test_a_file_with_many_columns_is_opened_once_for_all_of_them(tmp_path, monkeypatch):
    file = write(
        tmp_path / "a.parquet", {"text": TEXTS, "labels": LABELS, **{f"c{at}": range(ROWS) for at in range(300)}}
    )
    source, opened = Source.open(str(file)), []

    class Counted(pq.ParquetFile):
        def __init__(self, *args: Any, **options: Any) -> None:
            opened.append(args[0])
            super().__init__(*args, **options)

    monkeypatch.setattr(column_stream.pq, "ParquetFile", Counted)
    rows = np.arange(ROWS)
    found = embeddings_of(source, tmp_path / "e.parquet", rows, label="labels", input="text")
    assert found["c299"].to_pylist() == rows.tolist()
    assert opened == [file]
    opened.clear()
    overview(str(file))
    assert len(opened) < 10


def test_names_that_the_table_of_embeddings_has_itself_are_told_apart(tmp_path):
    table = {"text": TEXTS, "labels": LABELS, "row": range(ROWS), "row_in_source": ["mine"] * ROWS, "label": [7] * ROWS}
    source = Source.open(str(write(tmp_path / "a.parquet", table)))
    found = embeddings_of(source, tmp_path / "e.parquet", np.arange(3), label="labels", input="text")
    assert found.column_names == [
        "row", "label", "embedding", "row_in_source_in_source", "row_in_source", "label_in_source",
    ]  # fmt: skip
    assert found.column("row_in_source_in_source").to_pylist() == [0, 1, 2]
    assert found.column("row_in_source").to_pylist() == ["mine"] * 3


def test_what_is_known_of_a_column_goes_with_it(tmp_path):
    schema = pa.schema([("text", pa.string()), pa.field("it", pa.int8(), metadata={"unit": "mm"})])
    pq.write_table(pa.table({"text": TEXTS, "it": range(ROWS)}, schema=schema), tmp_path / "a.parquet")
    source = Source.open(str(tmp_path / "a.parquet"))
    found = embeddings_of(source, tmp_path / "e.parquet", np.arange(3), label=None, input="text")
    assert found.schema.field("it").metadata[b"unit"] == b"mm"


# Files that are no Parquet.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html>\n<html></html>", "a web page (HTML)"),
        (b"ARROW1\0\0", "an Arrow (Feather) file"),
        (b"PK\x03\x04", "a ZIP archive"),
    ],
)
def test_a_file_that_is_no_parquet_is_called_what_it_is(tmp_path, content, said):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError) as caught:
        Source.open(str(tmp_path / "a.parquet"))
    assert f"{tmp_path / 'a.parquet'} is not a Parquet file but {said}" in caught.value.message


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[[[1, 2, 3]] * 2] * 2] * 6, pa.list_(pa.list_(pa.list_(pa.uint8())))),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((6, 2, 2, 3), np.float32)),
    ],
    ids=["lists", "tensors"],
)
def test_pixels_without_a_format_have_a_way_on(tmp_path, column):
    file = write(tmp_path / "a.parquet", {"images": column, "labels": ["a", "b"] * 3})
    with pytest.raises(DataError, match="column 'images'") as refused:
        plan_data(spec_of(file))
    assert "write each picture as PNG" in str(refused.value.hint)
