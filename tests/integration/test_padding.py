"""A text's result does not depend on the texts that share its batch, whatever the network does with padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.data.sources.parquet import open_source
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.engine.run import execute
from deeptune.runs import new_run_directory, read_records
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")

LONG = " ".join(["a good film and a bad plot with good acting"] * 3)
TUNINGS = {
    "partial": {"method": "partial"},
    "blocks": {"method": "partial", "unfreeze": 1},
    "full": {"method": "full"},
    "lora": {"method": "lora"},
}


@pytest.fixture(scope="module")
def convbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ConvBERT convolves over the tokens, padding included."""
    from transformers import ConvBertConfig
    from unit.hub import save_bert_tokenizer

    folder = tmp_path_factory.mktemp("models") / "convbert"
    tokens = save_bert_tokenizer(folder)
    ConvBertConfig(
        vocab_size=tokens, hidden_size=32, embedding_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_text_alone_and_beside_a_longer_one_gets_the_same_result(tuning: str, convbert: Path, tmp_path: Path) -> None:
    texts = [("a good film", "bad acting")[row % 2] + " and plot" * (row % 4) for row in range(24)]
    pq.write_table(pa.table({"text": texts, "labels": ["good", "bad"] * 12}), tmp_path / "data.parquet")
    spec = validate(
        {
            "data": {"path": str(tmp_path / "data.parquet")},
            "backbone": {"name": f"hf:{convbert}", "weights": "random"},
            "tuning": TUNINGS[tuning],
            "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
            "embed": {"splits": ["train", "val", "test"]},
        }
    )
    run = new_run_directory(tmp_path / "runs", "padding")
    execute(spec, run)
    told = [event.get("message", "") for event in read_records(run.events)]
    assert any("in batches of equal length, without padding" in message for message in told)

    predictor, options = Predictor(run, device="cpu"), ApplyOptions(batch_size=8)
    found = []
    for name, column in {"alone": ["a good film"], "beside": [LONG, "a good film"]}.items():
        pq.write_table(pa.table({"text": column}), tmp_path / f"{name}.parquet")
        output = tmp_path / f"{name}-embedded.parquet"
        predictor.write_embeddings(open_source(tmp_path / f"{name}.parquet"), output, options)
        found.append(np.array(pq.read_table(output)["embedding"].to_pylist()[-1]))
    assert np.abs(found[0] - found[1]).max() < 1e-5 * np.abs(found[0]).max()

    row = texts.index("a good film and plot and plot")  # the run's own embeddings are those of each text alone
    stored = pa.concat_tables([pq.read_table(file) for file in sorted(run.embeddings("test").parent.glob("*.parquet"))])
    own = next(one["embedding"] for one in stored.to_pylist() if one["row"] == row)
    pq.write_table(pa.table({"text": [texts[row]]}), tmp_path / "one.parquet")
    predictor.write_embeddings(open_source(tmp_path / "one.parquet"), tmp_path / "one-embedded.parquet", options)
    alone = np.array(pq.read_table(tmp_path / "one-embedded.parquet")["embedding"].to_pylist()[0])
    assert np.abs(np.array(own) - alone).max() < 1e-5 * np.abs(alone).max()
