"""`deeptune spec`: the keys of a run spec, for people and for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from deeptune.cli.console import console, safe, say

app = typer.Typer(help="Explain and check run specs.", no_args_is_help=True, rich_markup_mode=None)


def schema_text() -> str:
    """The JSON Schema of a run spec, as the file beside the presets holds it."""
    from deeptune.spec import RunSpec

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunSpec.model_json_schema(),
        "title": "DeepTune run spec",
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here instead of to the terminal.")
    ] = None,
) -> None:
    """Write the JSON Schema of specs, for editors."""
    if output is None:
        say(schema_text().rstrip())
    else:
        from deeptune.runs.files import write_text

        write_text(output, schema_text())
        say(f"wrote {output}")


@app.command()
def fields() -> None:
    """List every key with its default and its meaning."""
    from rich.padding import Padding
    from rich.text import Text

    out = console()
    width = min(out.width, 100)
    for key, default, meaning in field_rows():
        out.print(Text.assemble((key, "bold"), f" = {safe(default)}" if default else ""), soft_wrap=True)
        out.print(Padding(Text(safe(meaning)), (0, 0, 0, 4)), width=width)


@app.command()
def check(
    spec: Annotated[str, typer.Argument(help="A spec file or a preset.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a key: section.key=value.")] = None,
) -> None:
    """Check a spec's keys and values without reading any data."""
    from deeptune.spec import load_spec
    from deeptune.spec.presets import find_spec_file

    load_spec(find_spec_file(spec), overrides or [])
    say(f"{spec}: every key and value is valid")


def field_rows() -> list[tuple[str, str, str]]:
    """(dotted key, default as TOML, what it accepts and means) for every key of a run spec."""
    from pydantic_core import PydanticUndefined

    from deeptune.spec.model import RunSpec
    from deeptune.spec.toml import describe, expected

    rows: list[tuple[str, str, str]] = []

    def walk(model: Any, prefix: str) -> None:
        for name, field in model.model_fields.items():
            below = field.annotation
            if isinstance(below, type) and hasattr(below, "model_fields"):
                walk(below, f"{prefix}{name}.")
                continue
            default = field.get_default(call_default_factory=True)
            shown = "(required)" if default is PydanticUndefined else "" if default is None else json.dumps(default)
            rows.append((prefix + name, shown, f"{describe(field)} Accepts {expected(field)}."))

    walk(RunSpec, "")
    return rows
