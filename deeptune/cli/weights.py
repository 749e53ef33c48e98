"""`deeptune weights`: pretrained weights on this machine, fetched ahead, and carried to one without network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli import completion
from deeptune.environment import short_path, user_path
from deeptune.errors import DeepTuneError, SpecError, WeightsError
from deeptune.show.console import console, fail, safe, say, say_json

if TYPE_CHECKING:
    from deeptune.fetching.local import LocalWeights
    from deeptune.progress import Progress

app = typer.Typer(
    help="List, fetch and carry pretrained weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Names = Annotated[
    list[str],
    typer.Argument(metavar="BACKBONE...", shell_complete=completion.backbones, help="Backbones, as a spec names them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the pretrained weights on this machine, with size, origin and licence.

    The name is what `backbone.name` of a spec takes.
    """
    from deeptune.fetching.local import all_local_weights

    found = all_local_weights()
    if as_json:
        say_json([_row(each) for each in found], indent=2)
        return
    if not found:
        say("no pretrained weights are on this machine; `deeptune weights fetch BACKBONE` brings them")
        return
    from rich.table import Table

    from deeptune.formatting import size_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("name", "size", "from", "licence"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for each in found:
        table.add_row(safe(each.name), size_text(each.size), each.origin, safe(each.licence or "see its page"))
    out = console()
    out.print(table)
    out.print(f"\n{size_text(sum(each.size for each in found))} in all; `deeptune weights where` shows the folders")


@app.command()
def where(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[BACKBONE]", shell_complete=completion.backbones, help="One backbone; by default the folders."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where weights lie, or where they are looked for.

    TORCH_HOME, HF_HOME, HF_HUB_CACHE and XDG_CACHE_HOME move the folders.
    """
    from deeptune.catalog import find, hf_hub_dir, torch_hub_dir
    from deeptune.fetching import fetch_of
    from deeptune.fetching.local import local_weights

    if name is None:
        places = {"torchvision": torch_hub_dir() / "checkpoints", "Hugging Face hub": hf_hub_dir()}
        if as_json:
            say_json({origin: str(place) for origin, place in places.items()}, indent=2)
            return
        for origin, place in places.items():
            say(f"{origin:<17} {place}{'' if place.is_dir() else '  (nothing there yet)'}")
        return
    info = find(name)
    found = local_weights(info)
    if found is None:
        fetch = fetch_of(info)
        assert fetch is not None
        raise WeightsError(
            f"the pretrained weights of {fetch.name} are not on this machine", hint=_way(fetch.way, name)
        )
    if as_json:
        say_json(_row(found), indent=2)
        return
    for file in found.files:
        say(file)


@app.command()
def fetch(names: Names, as_json: AsJson = False) -> None:
    """Fetch the weights of backbones ahead of a run, with what else they are built from.

    A download that was cut resumes where it ended, and every file is checked. HF_TOKEN opens gated models; HF_ENDPOINT
    and the usual proxy variables are respected.
    """
    from deeptune.backbones.fetch import fetch_weights
    from deeptune.catalog import find
    from deeptune.formatting import size_text

    for name in names:
        find(name)  # a typing error is known before anything is fetched
    rows: list[dict[str, Any]] = []
    failed: DeepTuneError | None = None
    for name in names:
        try:
            found = fetch_weights(name)
        except DeepTuneError as error:
            fail(error.title, error.message, error.hint)
            failed = error
            rows.append({"name": name, "error": error.message})
            continue
        rows.append(_row(found))
        if not as_json:
            licence = f", licence {found.licence}" if found.licence else ""
            say(f"{name}: {size_text(found.size)}{licence}, in {short_path(found.path.parent)}")
    if as_json:
        say_json(rows, indent=2)
    if failed is not None:
        raise typer.Exit(failed.exit_code)


@app.command()
def pack(
    names: Names,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, such as weights.tar.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Put the weights of backbones into one file, for scp or a USB stick.

    `deeptune weights unpack` puts them into place on a machine without network.
    """
    from deeptune.catalog import find
    from deeptune.fetching.local import local_weights
    from deeptune.fetching.pack import pack as write_pack
    from deeptune.formatting import counted, size_text

    output = user_path(output, key="--output")
    if output.exists() and not force:
        raise SpecError(f"{output} exists", hint="Choose another name, or replace it with --force.")
    local = {name: local_weights(find(name)) for name in names}
    if missing := [name for name, found in local.items() if found is None]:
        raise WeightsError(
            f"the pretrained weights of {', '.join(missing)} are not on this machine",
            hint=f"Fetch them first: deeptune weights fetch {' '.join(missing)}",
        )
    with _bar("packing") as progress:
        files = write_pack([found for found in local.values() if found is not None], output, progress)
    say(f"wrote {short_path(output)}: {counted(len(files), 'file')}, {size_text(output.stat().st_size)}")
    say(f"there: deeptune weights unpack {output.name}")


@app.command()
def unpack(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `deeptune weights pack` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Put packed weights where the libraries look for them.

    Each file is checked before it takes its place. Weights that are there already stay.
    """
    from deeptune.fetching.pack import unpack as read_pack
    from deeptune.formatting import counted

    with _bar("unpacking") as progress:
        done = read_pack(user_path(source, key="FILE"), progress)
    if as_json:
        files = {"written": [str(file) for file in done.written], "present": [str(file) for file in done.present]}
        say_json({"backbones": done.backbones, **files}, indent=2)
        return
    present = f"; {len(done.present)} were there already" if done.present else ""
    say(f"{', '.join(done.backbones)}: {counted(len(done.written), 'file')} written{present}")


def _row(weights: LocalWeights) -> dict[str, Any]:
    return {
        "name": weights.name,
        "bytes": weights.size,
        "from": weights.origin,
        "licence": weights.licence,
        "commit": weights.commit,
        "files": [str(file) for file in weights.files],
    }


def _way(way: str, name: str) -> str:
    return f"`deeptune weights fetch {name}` brings them. {way}"


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """Show a progress bar on a terminal, counted in bytes; nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(desc=title, unit="B", unit_scale=True, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
