"""Measures whether memory grows with the data: the peak of a whole run at ten times the rows, over that at one time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.lines import Measured, Settings, line

MB = 1e6
# The peak of a child counts that of the process it was forked from, so a small one stands between. In KiB, on Linux.
PEAK = """
import resource, subprocess, sys

subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@line(
    "memory",
    "partial, images in one row group: peak memory of a whole run at 10 times the rows over 1 times",
    at_most=1.1,
)
def ten_times_the_rows(settings: Settings) -> Measured:
    """Measure runs, each in a process of its own with an empty cache, from its start to the report.

    At 64 pixels both have enough rows to fold the network, so that the folded copy is on both sides.
    """
    rows = 1000 if settings.quick else 3000
    with tempfile.TemporaryDirectory() as folder:
        sizes = {count: write_noise(Path(folder) / f"{count}.parquet", count) for count in (rows, 10 * rows)}
        peaks = {
            count: peak_of_run(Path(folder) / f"{count}.parquet", settings.device, image_size=64) for count in sizes
        }
    few, many = (f"{peaks[count] / MB:.0f} MB for {count:,} rows of {sizes[count] / MB:.0f} MB" for count in sizes)
    return Measured(peaks[10 * rows] / peaks[rows], f"{many} against {few}")


def write_noise(path: Path, rows: int, *, side: int = 112, quality: int = 95, page: int = 1024) -> int:
    """Write JPEG files of random noise with two labels as one row group. Returns the bytes of the images.

    A page holds `page` rows, or more where these are less than 1 MB.
    """
    # A hundred pictures repeat. That changes nothing, as Parquet writes each in full.
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(rows)
    pictures = [_noise(rng, side, quality) for _ in range(100)]
    images = [pictures[row % len(pictures)] for row in range(rows)]
    table = pa.table({"images": images, "labels": np.arange(rows) // len(pictures) % 2})
    pq.write_table(table, path, row_group_size=rows, use_dictionary=False, write_batch_size=page)
    return sum(map(len, images))


def _noise(rng: np.random.Generator, side: int, quality: int) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(written, "JPEG", quality=quality)
    return written.getvalue()


def peak_of_run(data: Path, device: str = "cpu", *, image_size: int = 32) -> int:
    """Return the peak resident memory in bytes of a `partial` run of ResNet-18 on a file, which must succeed."""
    from deeptune.runs import new_run_directory, write_text
    from deeptune.spec.toml import dump_spec, validate

    spec = validate(
        {
            "data": {"path": str(data)},
            "backbone": {"name": "resnet18", "weights": "random", "image_size": image_size},
            "train": {"epochs": 2, "device": device, "workers": 0},
        }
    )
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        run = new_run_directory(Path(folder), "memory")
        write_text(run.spec, dump_spec(spec))
        command = [sys.executable, "-m", "deeptune.engine.runner", str(run.path)]
        environment = {**os.environ, "DEEPTUNE_CACHE": f"{folder}/cache"}
        found = subprocess.run(
            [sys.executable, "-c", PEAK, *command], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return int(found.stdout) * 1024
