"""Arrow types: in which one a column is read, which one several files share, and what its values may stand for.

carried    the type of a column in memory and in the tables that a run writes: its own, without views and run ends
bare       the same without dictionaries and extension types: what labels, groups and inputs are made of
shared     one type for a column whose files differ, where no value is lost
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

Values = TypeVar("Values", pa.Array, pa.ChunkedArray)

_HALF = re.compile("[\\ud800-\\udfff]")
_CONTROL = r"[\x00-\x08\x0e-\x1f]"


def is_text(kind: pa.DataType) -> bool:
    """Check whether values are strings, of any layout."""
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def half_character(text: str) -> str | None:
    """Return the first half of a UTF-16 character in a text, as broken JSON has it.

    UTF-8, and so Arrow, can't hold any.
    """
    found = None if text.isascii() else _HALF.search(text)
    return None if found is None else found.group()


def is_bytes(kind: pa.DataType) -> bool:
    """Check whether values are byte strings, of any layout."""
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind)


def in_words(kind: pa.DataType) -> str:
    """Name what a column of this type holds, for people: `decimal numbers`, `lists of text`."""
    if isinstance(kind, pa.BaseExtensionType):
        return f"values of type {kind.extension_name}"
    kind = bare(kind)
    named: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
        (is_text, "text"),
        (is_bytes, "bytes"),
        (pt.is_boolean, "true or false"),
        (pt.is_integer, "whole numbers"),
        (pt.is_floating, "decimal numbers"),
        (pt.is_decimal, "decimal numbers"),
        (pt.is_timestamp, "times"),
        (pt.is_date, "dates"),
        (pt.is_struct, "records"),
        (pt.is_null, "nothing"),
    )
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return f"lists of {in_words(kind.value_type)}"
    return next((words for holds, words in named if holds(kind)), str(kind))


def carried(kind: pa.DataType) -> pa.DataType:
    """Return the type to read a column in.

    Arrow can't take rows of views yet, at whatever depth, nor write run ends.
    """
    return _rebuilt(kind, _carried_leaf)


def bare(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves: a dictionary's values, an extension type's storage, at any depth."""
    return _rebuilt(kind, _bare_leaf)


def bare_values(values: Values) -> Values:
    """Return values in their bare type."""
    return as_type(values, bare(values.type))


def shared(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    """Return the type that columns of these types share by Arrow's own promotion, or None where it has none.

    `promote` says whether values keep their meaning in it.
    """
    carry = [carried(kind) for kind in kinds]
    if all(kind == carry[0] for kind in carry):
        return carry[0]
    try:
        schemas = [pa.schema([("it", bare(kind))]) for kind in kinds]
        found = pa.unify_schemas(schemas, promote_options="permissive").field("it").type
        for kind in kinds:
            as_type(pa.nulls(1, kind), found)  # Arrow casts between most types, but not all
    except pa.ArrowException:
        return None
    return None if _has_deep_nulls(found) else found


def as_type(values: Values, kind: pa.DataType) -> Values:
    """Return values in another type, as they are where it is theirs."""
    if values.type == kind:
        return values
    if pt.is_null(values.type):
        nulls = pa.nulls(len(values), kind)
        return nulls if isinstance(values, pa.Array) else pa.chunked_array([nulls])
    if pt.is_run_end_encoded(values.type):  # which Arrow does not cast
        return as_type(pc.run_end_decode(values), kind)
    return values.cast(kind)


def promote(values: Values, kind: pa.DataType) -> Values:
    """Convert values to a type that `shared` gave. Raises ArrowInvalid where one of them would not be what it was."""
    wider = as_type(values, kind)
    if not keeps_all(values.type, kind) and not wider.cast(values.type).equals(values):
        raise pa.ArrowInvalid(f"some values would change as {kind}")
    return wider


def keeps_all(kind: pa.DataType, wider: pa.DataType) -> bool:
    """Check whether the types alone say that every value of `kind` keeps its meaning in `wider`."""
    kind, wider = bare(kind), bare(wider)
    if kind == wider or pt.is_null(kind):
        return True
    if pt.is_integer(kind) and pt.is_integer(wider):
        signed = pt.is_signed_integer(kind)
        larger = wider.bit_width > kind.bit_width
        return pt.is_signed_integer(wider) and larger if not signed else wider.bit_width >= kind.bit_width
    if pt.is_floating(kind) and pt.is_floating(wider):
        return wider.bit_width >= kind.bit_width
    if is_text(kind) or is_bytes(kind):
        return is_text(wider) or is_bytes(wider)
    if pt.is_struct(kind) and pt.is_struct(wider):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return all(keeps_all(field.type, wider.field(field.name).type) for field in fields)
    if pt.is_map(kind) and pt.is_map(wider):
        return keeps_all(kind.key_type, wider.key_type) and keeps_all(kind.item_type, wider.item_type)
    lists = is_lists(kind) and is_lists(wider)
    return lists and keeps_all(kind.value_type, wider.value_type)


# What values stand for.


def is_uuid(kind: pa.DataType) -> bool:
    """Check whether values are numbers of 128 bits that name something."""
    return isinstance(kind, pa.BaseExtensionType) and kind.storage_type == pa.binary(16)


def text_of(values: Values) -> Values:
    """Decode byte strings that are UTF-8 throughout; other values stay as they are."""
    if is_bytes(values.type):
        with suppress(pa.ArrowInvalid):
            return values.cast(pa.large_string() if pt.is_large_binary(values.type) else pa.string())
    return values


def sample_parts(values: Values) -> Values:
    """Keep of a struct only the fields that a sample is read from, `bytes` and `path`. Other values stay as they are.

    The other fields of a struct may be of types that Python has no values for.
    """
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.cast(values.type.storage_type)
    if not pt.is_struct(values.type):
        return bare_values(values)
    names = [name for name in ("bytes", "path") if values.type.get_field_index(name) >= 0]
    if isinstance(values, pa.Array):
        return _fields(values, names)
    return pa.chunked_array([_fields(chunk, names) for chunk in values.chunks or [pa.nulls(0, values.type)]])


def _fields(structs: pa.StructArray, names: list[str]) -> pa.StructArray:
    inside = [bare_values(pc.struct_field(structs, name)) for name in names]
    return pa.StructArray.from_arrays(inside, names=names, mask=structs.is_null())


def texts(values: pa.Array) -> pa.Array:
    """Decode byte strings, to null where they are not UTF-8; strings stay as they are."""
    found = text_of(values)
    return pa.array([_decoded(one) for one in found.to_pylist()], pa.large_string()) if is_bytes(found.type) else found


def reads_as_text(values: pa.ChunkedArray) -> bool:
    """Check whether bytes are UTF-8 without control characters, which every format of images has."""
    found = text_of(bare_values(values)).drop_null()
    return len(found) > 0 and is_text(found.type) and not pc.any(pc.match_substring_regex(found, _CONTROL)).as_py()


def _decoded(value: bytes | None) -> str | None:
    with suppress(UnicodeDecodeError):
        return None if value is None else value.decode()
    return None


def keys_of(values: Values) -> Values | None:
    """Return values that Arrow's dictionary encoding distinguishes, exactly; None for lists, structs and maps."""
    values = bare_values(values)
    if pt.is_nested(values.type):
        return None
    if pt.is_decimal(values.type) and values.type.bit_width < 128:
        return values.cast(pa.decimal128(values.type.precision, values.type.scale))
    return values


def shown(value: pa.Scalar, *, quoted: bool = False) -> str:
    """Return a value as text, as Python writes it where `quoted`.

    Python has no dates after 9999, and no nanoseconds.
    """
    try:
        return repr(value.as_py()) if quoted else str(value.as_py())
    except (ValueError, OverflowError):
        with suppress(pa.ArrowException):
            return str(value.cast(pa.string()).as_py())
        return str(value.type)


# Types within types.


def _rebuilt(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return `kind` with `leaf` of each type in it that is not a list, struct or map."""

    def inside(field: pa.Field) -> pa.Field:
        return field.with_type(_rebuilt(field.type, leaf))

    if isinstance(kind, pa.BaseExtensionType) or pt.is_dictionary(kind):
        return leaf(kind)
    if pt.is_struct(kind):
        return pa.struct([inside(kind.field(index)) for index in range(kind.num_fields)])
    if pt.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field), keys_sorted=kind.keys_sorted)
    if pt.is_fixed_size_list(kind):
        return pa.list_(inside(kind.value_field), kind.list_size)
    if pt.is_large_list(kind):
        return pa.large_list(inside(kind.value_field))
    return pa.list_(inside(kind.value_field)) if pt.is_list(kind) else leaf(kind)


def _has_deep_nulls(kind: pa.DataType, depth: int = 0) -> bool:
    """Check whether Arrow's type `null` is two or more types deep in a type, such as a list of lists of nulls.

    pyarrow 26 casts slices to invalid arrays of several of these types.
    """
    if not pt.is_nested(kind):
        return depth > 1 and pt.is_null(kind)
    return any(_has_deep_nulls(kind.field(at).type, depth + 1) for at in range(kind.num_fields))


def _carried_leaf(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        storage = carried(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if pt.is_dictionary(kind):
        return kind
    if pt.is_run_end_encoded(kind):
        return carried(kind.value_type)
    return pa.large_string() if pt.is_string_view(kind) else pa.large_binary() if pt.is_binary_view(kind) else kind


def _bare_leaf(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return bare(kind.storage_type)
    return bare(kind.value_type) if pt.is_dictionary(kind) else _carried_leaf(kind)


def is_lists(kind: pa.DataType) -> bool:
    """Check whether values are lists."""
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
