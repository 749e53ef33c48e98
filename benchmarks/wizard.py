"""Measures what the wizard asks of people: keys, and waiting while a large file is looked at."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from benchmarks.lines import Measured, NotMeasured, Settings, line

PATIENCE = 300.0  # seconds for a large file on a slow disk


@line("wizard-keys", "wizard: keys from a pasted path to the run", at_most=12)
def keys_to_a_run(settings: Settings) -> Measured:
    """Count keys at 80x24 with the defaults. The run directory is made, and no runner is started."""
    from textual import events

    from tui.app import DeepTuneApp
    from tui.options import Options

    keys = ["enter", "ctrl+r", "enter"]

    async def go(root: Path) -> None:
        app = DeepTuneApp(Options(root=root))
        async with app.run_test(size=(80, 24)) as pilot:
            app.open_wizard()
            await _until(pilot, lambda: type(app.screen).__name__ == "WizardScreen" and app.screen.focused is not None)
            assert app.screen.focused is not None
            app.screen.focused.post_message(events.Paste("sample:openclipart7"))
            for key in keys:
                await pilot.press(key)
                await _until(
                    pilot, lambda: getattr(app.screen, "reader", None) is None or app.screen.reader.data.survey
                )
            await _until(pilot, lambda: any(root.glob("*/spec.toml")))

    with _own_state() as root, patch("deeptune.runs.launch.start_runner"), patch.object(DeepTuneApp, "open_monitor"):
        asyncio.run(go(root))
    return Measured(len(keys), " ".join(keys))


@line("wizard-lag", "wizard: seconds that a key may wait while a file of 1 GB is looked at", at_most=0.1)
def longest_gap(settings: Settings) -> Measured:
    """Measure the longest gap of a ticker of 10 ms in the app's own loop, until all is known of a named file."""
    from tui.app import DeepTuneApp
    from tui.options import Options
    from tui.screens.wizard import WizardScreen

    gaps = []

    async def go(root: Path, file: Path) -> float:
        app = DeepTuneApp(Options(root=root))
        async with app.run_test(size=(80, 24)) as pilot:
            screen = WizardScreen()
            app.push_screen(screen)
            await _until(pilot, lambda: screen.focused is not None)
            await pilot.pause(0.5)
            ticker = asyncio.create_task(_ticks(gaps))
            started = time.monotonic()
            screen.draft.set("data.path", str(file))
            screen.reader.read(screen.draft, again=True)
            await _until(pilot, lambda: screen.reader.data.survey and screen.reader.samples)
            ticker.cancel()
            return time.monotonic() - started

    with _own_state() as root:
        file = root / "large.parquet"
        _write(file, 50_000_000 if settings.quick else 1_000_000_000)
        took = asyncio.run(go(root / "runs", file))
        size = os.path.getsize(file)
    return Measured(max(gaps), f"{size / 1e9:.2f} GB in {took:.1f} s")


async def _ticks(gaps: list[float]) -> None:
    before = time.monotonic()
    while True:
        await asyncio.sleep(0.01)
        now = time.monotonic()
        gaps.append(now - before)
        before = now


async def _until(pilot, condition: Callable[[], object]) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise NotMeasured(f"it did not come to that within {PATIENCE:.0f} s")
        await pilot.pause(0.02)


@contextmanager
def _own_state() -> Iterator[Path]:
    """Yield a folder, in which the interface keeps its state meanwhile."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDG_STATE_HOME=folder):
        yield Path(folder)


def _write(file: Path, size: int) -> None:
    """Write texts that don't compress, and 50 classes, in row groups of a thousand."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    block = rng.bytes(500_000)
    texts = pa.array([block[start : start + 500].hex() for start in range(0, len(block), 500)])
    schema = pa.schema([("text", pa.string()), ("labels", pa.int64())])
    with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(size // 1_000_000):
            writer.write_table(pa.table([texts, pa.array(rng.integers(0, 50, len(texts)))], schema=schema))
