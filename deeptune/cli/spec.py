"""`deeptune spec`: the keys of a run spec, for people and for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deeptune.cli import completion
from deeptune.errors import SpecError
from deeptune.show.console import console, safe, say

app = typer.Typer(help="Explain and check run specs.", no_args_is_help=True, rich_markup_mode=None)


def schema_text() -> str:
    """Return the JSON Schema of a run spec, as in the file beside the presets."""
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
        Path | None, typer.Option("--output", "-o", help="File to write to; by default the terminal.")
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
def fields(
    key: Annotated[
        str,
        typer.Argument(shell_complete=completion.keys, help="Only this key or section, such as train.epochs or train."),
    ] = "",
) -> None:
    """List every key with its default and meaning."""
    from rich.padding import Padding
    from rich.text import Text

    from deeptune.spec.fields import field_rows

    rows = [row for row in field_rows() if not key or row[0] == key or row[0].startswith(f"{key}.")]
    if not rows:
        from deeptune.spec.aliases import nearest_keys

        keys = [row[0] for row in field_rows()]
        near = nearest_keys(key, (), keys)
        raise SpecError(f"there is no key {key!r}. {near}".rstrip(), hint="`deeptune spec fields` lists all.")
    out = console()
    width = min(out.width, 100)
    for name, default, meaning in rows:
        out.print(Text.assemble((name, "bold"), f" = {safe(default)}" if default else ""), soft_wrap=True)
        out.print(Padding(Text(safe(meaning)), (0, 0, 0, 4)), width=width)


@app.command()
def check(
    spec: Annotated[str, typer.Argument(help="A spec file or a preset.", shell_complete=completion.presets)],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", shell_complete=completion.settings, help="Override a key: section.key=value."),
    ] = None,
) -> None:
    """Check a spec's keys and values without reading any data."""
    from deeptune.spec import load_spec
    from deeptune.spec.presets import find_spec_file

    load_spec(find_spec_file(spec), overrides or [])
    say(f"{spec}: every key and value is valid")
