"""`deeptune cache`: decoded and tokenised samples, and features of frozen backbones, kept for later runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from deeptune.environment import short_path
from deeptune.errors import SpecError
from deeptune.show.console import console, safe, say, say_json

if TYPE_CHECKING:
    from deeptune.data.cache.entry import EntryInfo

KEY_SHOWN = 12

app = typer.Typer(
    help="List and clear the cache of samples and features.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False) -> None:
    """List the cache's entries, the last used first.

    The cache is in `$DEEPTUNE_CACHE`, else in `$XDG_CACHE_HOME/deeptune`, else in `~/.cache/deeptune`. It takes at most
    `$DEEPTUNE_CACHE_LIMIT` (20 GB by default). Beyond that, the entries least recently used are removed.
    """
    from deeptune.data.cache.entry import CacheRefused, cache_folder, cache_limit, entries
    from deeptune.formatting import size_text

    try:
        limit = cache_limit()
    except CacheRefused as error:
        raise SpecError(str(error)) from error
    found, folder = entries(), cache_folder()
    total = sum(entry.bytes for entry in found)
    if as_json:
        rows = [
            {
                "key": entry.key,
                "what": entry.what,
                "rows": entry.rows,
                "width": entry.width,
                "bytes": entry.bytes,
                "last_used": round(entry.used, 3),
                "complete": entry.complete,
                "path": str(entry.folder),
            }
            for entry in found
        ]
        say_json({"folder": str(folder), "bytes": total, "limit": limit, "entries": rows}, indent=2)
        return
    if not found:
        say(f"the cache in {short_path(folder)} is empty; it may hold {size_text(limit)}")
        return
    from rich.table import Table

    from deeptune.formatting import ago

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("key", "what", "rows × width", "size", "last used"):
        right = name in ("rows × width", "size", "last used")
        table.add_column(name, overflow="fold", justify="right" if right else "left", no_wrap=name != "what")
    for entry in found:
        what = entry.what if entry.complete or entry.rows is None else f"{entry.what} (not complete)"
        shape = " × ".join(f"{size:,}" for size in (entry.rows, entry.width) if size is not None)
        used = f"{ago(time.time() - entry.used)} ago"
        table.add_row(entry.key[:KEY_SHOWN], safe(what), shape, size_text(entry.bytes), used)
    out = console()
    out.print(table)
    out.print(f"\n{size_text(total)} of at most {size_text(limit)} in {safe(short_path(folder))}", soft_wrap=True)


@app.command()
def clear(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Prefixes of keys; by default all.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Only entries not used for this many days.")
    ] = None,
) -> None:
    """Remove the cache's entries. Runs that need them make them again.

    Entries that a run in progress uses stay.
    """
    from deeptune.data.cache.entry import entries, remove_findings, remove_leftovers
    from deeptune.formatting import size_text

    there = entries()
    for key in keys or ():
        if not any(entry.key.startswith(key) for entry in there):
            raise SpecError(f"no entry of the cache has a key that begins with {key!r}", hint="`deeptune cache list`")
    chosen = [
        entry
        for entry in there
        if (not keys or any(entry.key.startswith(key) for key in keys))
        and (older_than is None or time.time() - entry.used > older_than * 86400)
    ]
    remove_leftovers()
    if not keys and older_than is None:
        remove_findings()
    freed = [entry for entry in chosen if entry.remove()]
    for entry in chosen:
        if entry not in freed:
            say(f"{entry.key[:KEY_SHOWN]} stays: {_why(entry)}", stderr=True)
    count = f"{len(freed):,} entr{'y' if len(freed) == 1 else 'ies'}"
    say(f"removed {count}, {size_text(sum(entry.bytes for entry in freed))}")


def _why(entry: EntryInfo) -> str:
    import os

    return "a run uses it" if os.access(entry.folder.parent, os.W_OK) else f"{entry.folder} can't be written"
