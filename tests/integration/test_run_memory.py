"""What a whole run holds at its peak does not grow with its data."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # last: the package under test may be an installed one

from benchmarks.memory import peak_of_run, write_noise


def test_the_peak_of_a_run_does_not_grow_with_its_images(tmp_path):
    # Pages of 64 rows, as a page is read whole.
    some = write_noise(tmp_path / "some.parquet", 1100, side=256, page=64)
    many = write_noise(tmp_path / "many.parquet", 3900, side=256, page=64)
    assert many - some > 200e6  # enough to stand out from what an allocator keeps, which differs by 50 MB
    growth = peak_of_run(tmp_path / "many.parquet") - peak_of_run(tmp_path / "some.parquet")
    assert growth < (many - some) / 2
