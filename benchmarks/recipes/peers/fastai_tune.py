"""fastai's `vision_learner` and `fine_tune`: one epoch of the head, then five of all weights."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.scoring import Predicted
from benchmarks.recipes.training import backbone_values

EPOCHS = 5


def predict(cell: Cell, data: DataSet, files: Files) -> Predicted:
    """Fine-tune a timm backbone with the weights that DeepTune loads, and predict the test file."""
    from fastai.vision import all as fastai
    from PIL import Image

    from deeptune.backbones import load_backbone
    from deeptune.spec.model_spec import BackboneSpec

    backbone = load_backbone(BackboneSpec(**backbone_values(cell.backbone)), seed=cell.seed)
    preprocessing: Any = backbone.preprocessing
    train, test = pq.read_table(files.train), pq.read_table(files.test)
    fastai.set_seed(cell.seed, reproducible=True)

    contents = [*train["images"].to_pylist(), *test["images"].to_pylist()]
    labels = train["labels"].to_pylist()

    def image(row: int) -> Any:
        return fastai.PILImage.create(np.asarray(Image.open(io.BytesIO(contents[row])).convert("RGB")))

    block = fastai.DataBlock(
        blocks=(fastai.TransformBlock(type_tfms=image, batch_tfms=fastai.IntToFloatTensor), _targets(fastai, data)),
        get_x=lambda row: row,
        get_y=lambda row: labels[row],
        splitter=fastai.RandomSplitter(valid_pct=0.2, seed=cell.seed),
        item_tfms=fastai.Resize(preprocessing.image_size),
        batch_tfms=[
            *fastai.aug_transforms(),
            fastai.Normalize.from_stats(list(preprocessing.mean), list(preprocessing.std)),
        ],
    )
    loaders = block.dataloaders(list(range(len(train))), bs=64, num_workers=0, device="cpu")
    options = {} if data.task == "classification" else {"n_out": 1, "loss_func": fastai.MSELossFlat()}
    learner = fastai.vision_learner(loaders, backbone.info.source, normalize=False, pretrained=False, **options)
    learner.model[0].model.load_state_dict(backbone.net.state_dict(), strict=True)
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
        given = loaders.test_dl(list(range(len(train), len(contents))))
        predictions, _ = learner.get_preds(dl=given)
    if data.task == "regression":
        return Predicted(numbers=predictions.numpy().ravel())
    return Predicted(probabilities=predictions.numpy().astype(np.float64), classes=list(loaders.vocab))


def _targets(fastai: Any, data: DataSet) -> Any:
    return fastai.CategoryBlock() if data.task == "classification" else fastai.RegressionBlock()
