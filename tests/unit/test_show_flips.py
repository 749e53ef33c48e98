"""The rows that two runs judge differently are drawn from a run's real data."""

from __future__ import annotations

import pytest

from deeptune.data.run_samples import RunSamples
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import write_text
from deeptune.show.flips import HEIGHT, WIDTH, sample
from deeptune.show.picture import PictureGlyphs
from deeptune.spec.toml import dump_spec, validate


@pytest.fixture
def samples(tmp_path):
    def make(data: str, backbone: str) -> RunSamples:
        run = RunDirectory(tmp_path / "run")
        run.path.mkdir()
        write_text(run.spec, dump_spec(validate({"data": {"path": data}, "backbone": {"name": backbone}})))
        return RunSamples(run)

    return make


@pytest.mark.parametrize("ascii", [False, True])
def test_an_image_is_drawn_in_its_cells(samples, ascii):
    lines = sample(samples("sample:openclipart7", "resnet18"), 3, PictureGlyphs(ascii=ascii))
    assert 0 < len(lines) <= HEIGHT
    assert max(line.cell_len for line in lines) <= WIDTH
    assert len({line.plain for line in lines} | {str(line.spans) for line in lines}) > 2


def test_a_text_is_one_line(samples):
    (line,) = sample(samples("sample:movie_snippets", "bert"), 3, PictureGlyphs())
    assert len(line.plain) > 10
    assert "\n" not in line.plain


def test_a_row_that_is_not_there_says_so(samples):
    (line,) = sample(samples("sample:movie_snippets", "bert"), 10**6, PictureGlyphs())
    assert "no row 1,000,000" in line.plain
