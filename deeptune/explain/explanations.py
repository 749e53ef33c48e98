"""Explains rows with the best model of a run, and tests the explanations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from deeptune.data.columns.input_columns import resolve_columns
from deeptune.data.loading.dataset import SampleOptions
from deeptune.data.sources.memory import MemorySource
from deeptune.data.sources.source import Source
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.errors import DataError
from deeptune.explain.faithfulness import RowTest, Verdict, row_test, shuffled_weights, verdict
from deeptune.explain.images import image_maps
from deeptune.explain.parts import Kind, Part, parts_of
from deeptune.explain.texts import blank_token, token_scores, token_texts, words
from deeptune.progress import Progress
from deeptune.spec.modalities import columns_of

GRID = 8  # parts on a side of an image that are taken away or put in
BLUR = 10  # what is left of a part that is taken away is blurred over 1/BLUR of the image's side
AT_ONCE = 32  # masked samples that pass together
MAX_MISS = 0.1  # largest share of the change of the output that integrated gradients may miss


@dataclass(frozen=True)
class Explanation:
    """A row's image or text (`kind`): the output that is explained, and the scores of its pieces.

    `output` is the index of the model's output, -1 for the sum of all. An image has `pixels` (uint8 (S, S, 3)) and
    `map` (float32 (S, S), positive where it speaks for the output); a text has `tokens` and `scores` (float32 (T,)).
    """

    row: int
    output: int
    prediction: str
    test: RowTest
    kind: Kind
    pixels: np.ndarray | None = None
    map: np.ndarray | None = None
    tokens: list[str] | None = None
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Explained:
    """All rows that were asked for, with the judgement of the set of images and of that of texts.

    Of an image with a text, a row has an explanation of each. `left_out` says why others have none, by row.
    """

    explanations: list[Explanation]
    verdicts: dict[Kind, Verdict]
    left_out: dict[int, str]
    notes: list[str]

    def __repr__(self) -> str:
        lines = [
            f"row {one.row:,} ({one.kind}), predicted {one.prediction}: gain over random orders {one.test.gain:.2f}"
            for one in self.explanations
        ]
        return "\n".join([*lines, self.text])

    @property
    def text(self) -> str:
        """Say whether the explanations are better than random: of an image with a text, of each."""
        if len(self.verdicts) == 1:
            return next(iter(self.verdicts.values())).text
        return " ".join(f"Of the {kind}s: {judged.text}" for kind, judged in self.verdicts.items())


def _in_words(prediction: Any) -> str:
    """Write a prediction of a row: a class, a number, or several labels or numbers joined by commas."""
    if isinstance(prediction, list):
        return ", ".join(map(str, prediction)) or "none"
    return str(prediction)


def explain(
    predictor: Predictor,
    source: Source,
    rows: Sequence[int],
    *,
    of: str | None = None,
    progress: Progress | None = None,
) -> Explained:
    """Explain some rows of a source, by default for what the model predicts, else for the class or label `of`.

    Raises SpecError for a class that the run does not have or a model that can't be explained, DataError for a row
    that the source does not have.
    """
    outputs = None if of is None else predictor.task.output_of(of)
    tables = _rows_of(source, rows, predictor)
    notes: list[str] = []
    options = ApplyOptions(on_bad_sample="skip", notify=notes.append)
    model, device = predictor.trained.model, predictor.compute.device
    shuffled = shuffled_weights(model, seed=0)
    rng = np.random.default_rng(0)
    found: list[Explanation] = []
    left_out: dict[int, str] = {}
    hashes = []
    done = 0
    for here, table in tables:
        with predictor.checked_rows(table, options) as data:
            inputs_of = data.samples.inputs(SampleOptions())
            for place in data.usable:
                row = here[int(place)]
                inputs = {k: v.to(device) for k, v in inputs_of.batch(np.array([place]), 0).items()}
                with torch.inference_mode():
                    logits = _numbers(model(inputs))
                output = int(predictor.task.explained_output(logits)[0]) if outputs is None else outputs
                said = predictor.task.predictions(logits)["prediction"][0]
                for part, other in zip(parts_of(model, inputs), parts_of(shuffled, inputs), strict=True):
                    explained = _explain_one(predictor, part, other, output, rng)
                    if (miss := explained.pop("miss", 0.0)) > MAX_MISS:
                        notes.append(f"row {row:,}: its scores miss {miss:.0%} of the change of the output")
                    found.append(Explanation(row, output, _in_words(said.as_py()), kind=part.kind, **explained))
                done += 1
                if progress is not None:
                    progress(done, len(rows))
            left_out |= {here[place]: reason for place, reason in data.errors.items()}
            hashes.append(data.samples.hashes[data.usable])
    found.sort(key=lambda one: list(rows).index(one.row))
    predictor.record_look("explain", np.concatenate(hashes), notes.append)
    kinds = list(dict.fromkeys(each.kind for each in found))
    verdicts = {kind: verdict([each.test for each in found if each.kind == kind]) for kind in kinds}
    return Explained(found, verdicts or {"image": verdict([])}, left_out, notes)


def _rows_of(source: Source, rows: Sequence[int], predictor: Predictor) -> list[tuple[list[int], MemorySource]]:
    """Return the input columns of some rows as tables of their own: no other row is decoded for them.

    There is one for each folder at which the names of files in these rows start.
    """
    bad = [row for row in rows if not 0 <= row < source.num_rows]
    if bad or not rows:
        what = f"there is no row {bad[0]:,}" if bad else "no row is named"
        raise DataError(f"--rows: {what}; {source.describe()} has the rows 0 to {source.num_rows - 1:,}")
    _, input = resolve_columns(source, predictor.modality, predictor.input)
    names = columns_of(input)
    by_folder: dict[Path, list[int]] = {}
    for row in rows:
        by_folder.setdefault(source.folder_of(row), []).append(int(row))
    tables = []
    for folder, here in by_folder.items():
        pieces = [next(batch for _, batch in source.stream_table(names, start=row, rows=1)).slice(0, 1) for row in here]
        tables.append((here, MemorySource(pa.Table.from_batches(pieces), key=source.key, root=folder)))
    return tables


def _explain_one(
    predictor: Predictor, part: Part, shuffled: Part, output: int, rng: np.random.Generator
) -> dict[str, Any]:
    inputs = part.inputs
    if part.kind == "image":
        whole, other = _image_map(part, output), _image_map(shuffled, output)
        ask = _asks_images(predictor, part, output)
        test = row_test(ask, _cells(whole), _cells(other), rng)
        pixels = inputs["images"][0].permute(1, 2, 0).cpu().numpy()
        return {"test": test, "pixels": pixels, "map": whole.cpu().numpy()}
    inside = words(part, inputs)[0].cpu().numpy()
    scores, miss = token_scores(part, inputs, output)
    others, _ = token_scores(shuffled, inputs, output)
    ask = _asks_texts(predictor, part, output, inside)
    numbers = scores.cpu().numpy()
    test = row_test(ask, numbers[inside], others.cpu().numpy()[inside], rng)
    tokens = token_texts(part, inputs)
    return {"test": test, "tokens": tokens, "scores": np.where(inside, numbers, 0.0), "miss": miss}


def _image_map(part: Part, output: int) -> Tensor:
    inputs = part.inputs
    size = inputs["images"].shape[-1]
    found = image_maps(part, inputs, torch.tensor([output], device=inputs["images"].device))
    return F.interpolate(found[None], size=(size, size), mode="bilinear", align_corners=False)[0, 0]


def _cells(scores: Tensor) -> np.ndarray:
    """Return the mean of a map in each part of the grid, float64 (GRID * GRID,)."""
    cells = F.adaptive_avg_pool2d(scores[None, None], GRID)[0, 0]
    return cells.reshape(-1).double().cpu().numpy()


def _asks_images(predictor: Predictor, part: Part, output: int) -> Callable[[np.ndarray], np.ndarray]:
    image = part.inputs["images"].float()
    size = image.shape[-1]
    blurred = _blurred(image, max(1, size // BLUR))

    def ask(masks: np.ndarray) -> np.ndarray:
        kept = torch.from_numpy(masks.reshape(-1, 1, GRID, GRID)).to(image.device).float()
        kept = F.interpolate(kept, size=(size, size), mode="nearest")
        mixed = (image * kept + blurred * (1 - kept)).round().clamp(0, 255).to(torch.uint8)
        return _outputs(predictor, part, {"images": mixed}, output)

    return ask


def _blurred(image: Tensor, radius: int) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(image, [2 * radius + 1, 2 * radius + 1], [float(radius), float(radius)])


def _asks_texts(
    predictor: Predictor, part: Part, output: int, inside: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    inputs = part.inputs
    ids, blank = inputs["input_ids"], blank_token(part)

    def ask(masks: np.ndarray) -> np.ndarray:
        kept = np.ones((len(masks), ids.shape[1]), bool)
        kept[:, inside] = masks
        mixed = ids.expand(len(masks), -1).where(torch.from_numpy(kept).to(ids.device), blank)
        rest = {name: value.expand(len(masks), -1) for name, value in inputs.items() if name != "input_ids"}
        return _outputs(predictor, part, {"input_ids": mixed, **rest}, output)

    return ask


def _outputs(predictor: Predictor, part: Part, inputs: dict[str, Tensor], output: int) -> np.ndarray:
    """Return the explained output on the scale that the task compares outputs on, float64 (M,)."""
    logits = np.concatenate(
        [
            _numbers(part.logits({name: value[start : start + AT_ONCE] for name, value in inputs.items()}))
            for start in range(0, len(next(iter(inputs.values()))), AT_ONCE)
        ]
    )
    if output < 0:
        return logits.astype(np.float64).sum(axis=1)
    return predictor.task.comparable(logits)[:, output]


def _numbers(logits: Tensor) -> np.ndarray:
    return logits.float().cpu().numpy()
