"""Columns of every Arrow type, with nulls in them, and their values whatever the layout."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from hypothesis import strategies as st


class Unknown(pa.ExtensionType):
    """An extension type that no other process knows."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "deeptune.tests.unknown")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Unknown:
        return cls()


def _leaves() -> Iterator[pa.DataType]:
    yield from (pa.null(), pa.bool_(), pa.float16(), pa.float32(), pa.float64(), pa.date32(), pa.date64())
    for bits in (8, 16, 32, 64):
        yield from (getattr(pa, f"int{bits}")(), getattr(pa, f"uint{bits}")())
    for unit in ("s", "ms", "us", "ns"):
        yield from (pa.timestamp(unit), pa.timestamp(unit, "Europe/Paris"), pa.duration(unit))
    yield from (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    yield from (pa.decimal128(12, 3), pa.decimal128(38, 0), pa.decimal256(60, 2))
    if hasattr(pa, "decimal32"):
        yield from (pa.decimal32(7, 2), pa.decimal64(15, 0))
    yield from (pa.string(), pa.large_string(), pa.string_view())
    yield from (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3))


LEAVES = list(_leaves())
EXTENSIONS = [
    *(getattr(pa, name)() for name in ("uuid", "json_", "bool8") if hasattr(pa, name)),
    *(
        pa.opaque(kind, "kind", "vendor")
        for kind in (pa.string(), pa.struct([("a", pa.string_view())]))
        if hasattr(pa, "opaque")
    ),
    pa.fixed_shape_tensor(pa.float32(), (2, 2)),
    Unknown(),
]


def _around(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    keys = st.sampled_from([pa.string(), pa.int32(), pa.string_view(), pa.binary(3)])
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda kind: pa.list_(kind, 2)),
        inner.map(pa.list_view),
        inner.map(pa.large_list_view),
        inner.map(lambda kind: pa.struct([("a", kind), ("b", pa.int32())])),
        st.builds(pa.map_, keys, inner),
    )


def _dictionaries(of: list[pa.DataType]) -> list[pa.DataType]:
    return [pa.dictionary(index, kind) for kind in of for index in (pa.int32(), pa.uint8())]


def kinds() -> st.SearchStrategy[pa.DataType]:
    """Every Arrow type that Parquet files hold, nested up to two deep."""
    encoded = [kind for kind in LEAVES if not pt.is_null(kind) and "view" not in str(kind)]
    flat = st.sampled_from([*LEAVES, *EXTENSIONS, *_dictionaries(encoded)])
    once = _around(flat)
    return st.one_of(flat, once, _around(st.one_of(flat, once)))


def column_of(
    kind: pa.DataType, rows: int, random: np.random.Generator, *, nulls: bool = True, distinct: int = 100
) -> pa.Array:
    """Values of a type, of which a quarter are null. Those that lie in no other are at most `distinct`."""
    missing = random.random(rows) < (0.25 if nulls else 0)
    mask = pa.array(missing)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(
            kind, column_of(kind.storage_type, rows, random, nulls=nulls, distinct=distinct)
        )
    if pt.is_null(kind):
        return pa.nulls(rows)
    if pt.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        children = [column_of(field.type, rows, random) for field in fields]
        if not children:
            return pa.array([None if gone else {} for gone in missing], kind)
        return pa.StructArray.from_arrays(children, fields=fields, mask=mask)
    if pt.is_dictionary(kind):
        values = _distinct(kind.value_type, random)
        at = pa.array(random.integers(0, len(values), rows), kind.index_type, mask=missing)
        return pa.DictionaryArray.from_arrays(at, values)
    if pt.is_fixed_size_list(kind):
        values = column_of(kind.value_type, rows * kind.list_size, random)
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
    if pt.is_nested(kind):
        return _lists(kind, rows, random, missing)
    numbers = random.integers(0, distinct, rows).tolist()
    return pa.array(
        [None if gone else _value(kind, n) for n, gone in zip(numbers, missing.tolist(), strict=True)], kind
    )


def _lists(kind: pa.DataType, rows: int, random: np.random.Generator, missing: np.ndarray) -> pa.Array:
    sizes = np.where(missing, 0, random.integers(0, 3, rows))
    ends = np.cumsum(sizes)
    total, offsets, mask = int(ends[-1]) if rows else 0, np.concatenate([[0], ends]), pa.array(missing)
    if pt.is_map(kind):
        keys = column_of(kind.key_type, total, random, nulls=False)
        at = pa.array(offsets, pa.int32(), mask=np.concatenate([missing, [False]]))
        return pa.MapArray.from_arrays(at, keys, column_of(kind.item_type, total, random), type=kind)
    values = column_of(kind.value_type, total, random)
    if pt.is_list(kind) or pt.is_large_list(kind):
        made, width = (pa.ListArray, pa.int32()) if pt.is_list(kind) else (pa.LargeListArray, pa.int64())
        return made.from_arrays(pa.array(offsets, width), values, type=kind, mask=mask)
    large = pt.is_large_list_view(kind)
    made, width = (pa.LargeListViewArray, pa.int64()) if large else (pa.ListViewArray, pa.int32())
    return made.from_arrays(pa.array(offsets[:-1], width), pa.array(sizes, width), values, type=kind, mask=mask)


def _distinct(kind: pa.DataType, random: np.random.Generator) -> pa.Array:
    """Some values for a dictionary; Arrow knows which are alike of some types only, so the last resort is one."""
    values = column_of(kind, 5, random, nulls=False)
    try:
        return values.unique()
    except pa.ArrowException:
        return values.slice(0, 1)


def _value(kind: pa.DataType, number: int) -> Any:
    if pt.is_boolean(kind):
        return number % 2 == 0
    if pt.is_decimal(kind):
        return decimal.Decimal(number).scaleb(-kind.scale)
    if pt.is_floating(kind):
        return np.float16(number / 4) if pt.is_float16(kind) else number / 4
    if pt.is_fixed_size_binary(kind):
        return bytes([number, 255, number] * 6)[: kind.byte_width]
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return bytes([number, 255]) * number
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return "é" * (number % 30)
    if pt.is_date64(kind):
        return number * 86_400_000
    if pt.is_integer(kind):
        return number + (2**63 if kind == pa.uint64() else 0)
    if kind in (pa.timestamp("us"), pa.timestamp("ms"), pa.date32()):
        return number * 10**4 if pt.is_date(kind) else number * 10**16  # beyond the years of nanoseconds, and of Python
    return number


_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Rows as Python's own values, the same for every layout: also those that Arrow has no Python type for."""
    return [_plain(value) for value in column]


def _plain(value: pa.Scalar) -> Any:
    kind = value.type
    if not value.is_valid:
        return None
    if isinstance(kind, pa.BaseExtensionType) or pt.is_dictionary(kind):
        return _plain(value.value)
    if pt.is_struct(kind):
        return {kind.field(index).name: _plain(value[index]) for index in range(kind.num_fields)}
    if pt.is_nested(kind):
        inside = value.values
        return None if inside is None else [_plain(one) for one in inside]
    if pt.is_temporal(kind):
        return value.value * (1 if pt.is_date(kind) else _NANOSECONDS[kind.unit])
    return value.as_py()
