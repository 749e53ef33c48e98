"""`deeptune presets` and `deeptune backbones`: the presets and backbones to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from deeptune.cli import completion
from deeptune.errors import SpecError, did_you_mean
from deeptune.show.console import console, safe, say, say_json
from deeptune.spec.modalities import COLUMN_MODALITIES


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            shell_complete=completion.presets, help="Preset whose TOML to print, as the start of your own spec."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the presets, or print one."""
    from deeptune.spec.presets import find_spec_file, preset_files, summary

    if name is not None:
        say(find_spec_file(name).read_text(encoding="utf-8").rstrip())
        return
    files = preset_files()
    if as_json:
        rows = [{"name": key, "summary": summary(file), "path": str(file)} for key, file in files.items()]
        say_json(rows, indent=2)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("preset", no_wrap=True)
    table.add_column("what it does")
    for key, file in files.items():
        table.add_row(key, safe(summary(file)))
    out = console()
    out.print(table)
    out.print(
        "\ndeeptune run PRESET --data YOUR.parquet     deeptune presets PRESET > my.toml", style="dim", soft_wrap=True
    )


def backbones(
    modality: Annotated[str | None, typer.Option(help="Only `image` or `text`.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family, such as `resnet`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the backbones.

    `here` says whether the pretrained weights are on this machine.
    """
    from deeptune.catalog import ALIASES, CATALOG, weights_on_this_machine

    for value, known, option in (
        (modality, {row.modality for row in CATALOG.values()}, "--modality"),
        (family, {row.family for row in CATALOG.values()}, "--family"),
    ):
        if value is not None and value not in known:
            near = did_you_mean(value, known)
            raise SpecError(f"{option}: expected one of {', '.join(sorted(known))}, got {value!r}. {near}".rstrip())
    rows = [
        row
        for row in CATALOG.values()
        if (modality is None or row.modality == modality) and (family is None or row.family == family)
    ]
    local = {row.name: weights_on_this_machine(row) for row in rows}
    if as_json:
        say_json(
            [
                {
                    "name": row.name,
                    "family": row.family,
                    "modality": row.modality,
                    "parameters": row.parameters,
                    "embedding_width": row.width,
                    "input_size": row.input_size,
                    "pooling": row.pooling,
                    "weights_from": row.weights_origin,
                    "weights_file": str(local[row.name]) if local[row.name] else None,
                    "on_this_machine": local[row.name] is not None,
                }
                for row in rows
            ],
            indent=2,
        )
        return
    from rich.table import Table

    out = console()
    for kind in COLUMN_MODALITIES.values():
        # A table for each modality: names of text backbones are long, and 80 columns are few.
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        numbers = ("params", "width", kind.unit)
        for title in ("family", "name", *numbers, "here", "weights from"):
            table.add_column(title, justify="right" if title in numbers else "left", no_wrap=True)
        for row in rows:
            if row.modality == kind.name:
                here = "yes" if local[row.name] else "no"
                millions = f"{(row.parameters or 0) / 1e6:.1f} M"
                table.add_row(
                    row.family, row.name, millions, str(row.width), str(row.input_size), here, row.weights_origin
                )
        if table.row_count:
            out.print(table)
            out.print()
    aliases = ", ".join(f"{short} = {name}" for short, name in ALIASES.items())
    out.print(
        f"{aliases}. Beyond the catalog: timm:NAME for any timm model, hf:NAME_OR_FOLDER for any text model "
        "of the Hugging Face hub or a folder.",
        style="dim",
    )
