"""The table of the benchmarks: every line has a name and a place in it. Nothing is timed here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # last: the package under test may be an installed one

from benchmarks import __main__ as command
from benchmarks import lines
from benchmarks.lines import Line, Measured, NotMeasured, Settings, table

SPEED = Line("speed", "theirs over ours", 1.4, True, lambda settings: Measured(1.52, "3 ms against 2 ms"))
SHARE = Line("share", "padding over all", 0.05, False, lambda settings: Measured(0.0512, "of 10"), percent=True)


def test_the_table_says_what_was_measured_and_whether_it_is_enough():
    drawn = table([(SPEED, Measured(1.52, "3 ms against 2 ms")), (SHARE, Measured(0.0512, "of 10"))])
    assert drawn == (
        "| line  | what             | measured | target | met | from              |\n"
        "|-------|------------------|----------|--------|-----|-------------------|\n"
        "| speed | theirs over ours | 1.52     | ≥ 1.40 | yes | 3 ms against 2 ms |\n"
        "| share | padding over all | 5.12%    | ≤ 5%   | no  | of 10             |"
    )


def test_a_line_that_this_machine_cannot_measure_says_why():
    drawn = table([(SPEED, NotMeasured("needs a GPU"))]).splitlines()[2]
    assert [cell.strip() for cell in drawn.split("|")[1:-1]] == [
        "speed", "theirs over ours", "–", "≥ 1.40", "–", "not measured: needs a GPU",
    ]  # fmt: skip


@pytest.mark.parametrize(("ratio", "more", "less"), [(0.9, False, True), (1.0, True, True), (1.1, True, False)])
def test_a_target_is_the_least_or_the_most(ratio, more, less):
    assert Line("a", "", 1.0, True, SPEED.measure).met(ratio) == more
    assert Line("a", "", 1.0, False, SPEED.measure).met(ratio) == less


def test_the_command_measures_the_lines_it_is_told(monkeypatch, capsys):
    asked = []

    def measure(settings: Settings) -> Measured:
        asked.append(settings)
        return Measured(2.0, "twice")

    def missing(settings: Settings) -> Measured:
        raise NotMeasured("needs a package")

    monkeypatch.setattr(command, "GROUPS", ())
    monkeypatch.setattr(
        command,
        "LINES",
        {
            "one": Line("one", "first", 1.0, True, measure),
            "two": Line("two", "second", 1.0, True, missing),
            "three": Line("three", "third", 1.0, True, lambda settings: pytest.fail("nobody asked")),
        },
    )
    assert command.main(["--only", "one", "two", "--quick"]) == 0
    out = capsys.readouterr().out
    assert asked == [Settings(quick=True, device="cpu")]
    assert "| one  | first  | 2.00 " in out
    assert "not measured: needs a package" in out
    assert "third" not in out
    assert "cores" in out
    assert "torch" in out
    with pytest.raises(SystemExit):
        command.main(["--only", "four"])
    assert "choose from" in capsys.readouterr().err


def test_every_group_adds_lines(capsys):
    assert command.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(lines.LINES) >= 5
    for name, shown in zip(lines.LINES, listed, strict=True):
        assert shown.startswith(name)
        assert lines.LINES[name].goal in shown
    with pytest.raises(ValueError, match="already"):
        lines.line("help", "again", at_most=1)
    with pytest.raises(ValueError, match="one target"):
        lines.line("new", "two", at_most=1, at_least=1)


def test_a_line_without_a_target_is_neither_met_nor_missed():
    known = lines.Line("known", "a number to know", None, False, lambda settings: lines.Measured(1.5, ""))
    table = lines.table([(known, lines.Measured(1.5, "both"))])
    assert table.splitlines()[-1] == "| known | a number to know | 1.50     | –      | –   | both |"


def test_batches_are_picked_from_the_narrowest_to_the_widest():
    """And whole: a sample of steps stands for its epoch only when it is spread over all widths."""
    text = importlib.import_module("benchmarks.text")

    class Loader:
        rows = np.arange(330) + 5
        lengths = np.arange(330) + 1

        def order(self, epoch):
            return self.rows[np.arange(330).reshape(-1, 10)[::-1].flatten()]

    picked = text.pick(Loader(), 3)
    longest = [max(Loader.lengths[Loader().order(0)[places] - 5]) for places in picked.values()]
    assert sorted(longest) == longest
    assert longest[0] < 120 < longest[1] < 230 < longest[2]
    assert all(places.stop - places.start == text.BATCH for places in picked.values())


def test_the_lines_for_a_gpu_run_from_end_to_end_on_a_cpu_with_tiny_sizes():
    from transformers import BertConfig, GPT2Config

    from benchmarks.compute import image_step, text_step

    settings = Settings(quick=True)
    gpt = GPT2Config(
        vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=16, num_labels=2, pad_token_id=0,
    )  # fmt: skip
    tiny = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    for found in (
        image_step("resnet18", 32, 4, settings, compile=False),
        text_step(tiny, 8, 4, settings, compile=False),
        text_step(gpt, 8, 4, settings, compile=False, precision="fp32"),
    ):
        assert found.ours > 0
        assert found.raw > 0
        assert found.operations > 0


def test_the_share_of_the_peak_is_of_the_operations_that_a_second_takes():
    from benchmarks.compute import Rates

    found = Rates(ours=100.0, raw=120.0, rows=10, operations=9.89e12)
    assert found.share_of_peak("NVIDIA H100 80GB HBM3") == pytest.approx(0.1)
    assert found.share_of_peak("NVIDIA H100 PCIe") == pytest.approx(0.1 * 989 / 756)
    assert found.share_of_peak("something else") is None
    assert found.share_of_peak("NVIDIA L40") is None  # no L4


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA GeForce RTX 3090", 71), ("NVIDIA GeForce RTX 3090 Ti", 80), ("NVIDIA GeForce RTX 4090", 165),
        ("Tesla T4", 65), ("NVIDIA L4", 121), ("NVIDIA A10", 125), ("NVIDIA GeForce RTX 5090", 209.5),
        ("NVIDIA GeForce RTX 5070 Ti", 87.9),
    ],
)  # fmt: skip
def test_the_peak_is_that_of_the_device(device, peak):
    from benchmarks.compute import Rates

    share = Rates(ours=1.0, raw=1.0, rows=1, operations=1e12).share_of_peak(device)
    assert share == pytest.approx(1 / peak)


def test_the_raw_step_has_the_fastest_kernels_whatever_the_run_asked_for(monkeypatch):
    import torch

    from benchmarks import compute

    seen, loss = [], compute._loss

    def watched(*arguments):
        seen.append((torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark))
        return loss(*arguments)

    monkeypatch.setattr(compute, "_loss", watched)
    compute.image_step("resnet18", 32, 4, Settings(quick=True))
    assert torch.backends.cudnn.deterministic  # as a run asks
    assert set(seen[1:]) == {(False, True)}  # the first only counts operations
