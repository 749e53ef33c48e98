"""What is held while embeddings are written does not grow with their number."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.engine.run import execute
from deeptune.runs import new_run_directory
from deeptune.spec.toml import validate

WIDTH = 3000

EMBED = """
import resource, sys
from pathlib import Path
from deeptune.data.sources.parquet import open_source
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.runs import RunDirectory

predictor = Predictor(RunDirectory(Path(sys.argv[1])), device="cpu")
predictor.write_embeddings(open_source(sys.argv[2]), Path(sys.argv[3]), ApplyOptions())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_more_rows_take_hardly_more_memory(tmp_path, environment, review_bert):
    spec = validate(
        {
            "data": {"path": "sample:movie_snippets", "split": {"train": 0.1, "val": 0.0, "test": 0.9}},
            "backbone": {"name": f"hf:{review_bert}", "max_length": 8},
            "head": {"layers": 2, "embedding_size": WIDTH},
            "train": {"epochs": 1, "device": "cpu"},
            "embed": {"splits": []},
        }
    )
    run = new_run_directory(tmp_path / "runs", "wide")
    execute(spec, run)
    peaks = []
    # Windows have 4,096 rows: so many that their memory is used again, and many more.
    for rows in (15_000, 35_000):
        texts = [("good film", "a bad one", "so so")[row % 3] for row in range(rows)]
        pq.write_table(pa.table({"text": texts, "number": range(rows)}), tmp_path / "data.parquet")
        said = subprocess.run(
            [sys.executable, "-c", EMBED, str(run.path), str(tmp_path / "data.parquet"), str(tmp_path / "out.parquet")],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        peaks.append(int(said.stdout))
        written = pq.ParquetFile(tmp_path / "out.parquet")
        assert written.metadata.num_rows == rows
        assert written.schema_arrow.field("embedding").type.list_size == WIDTH
    embeddings = 20_000 * WIDTH * 4  # that there are more: 240 MB
    assert peaks[1] - peaks[0] < embeddings / 3
