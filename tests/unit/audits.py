"""Audits without features, what they find, and data to plant problems into."""

from __future__ import annotations

import io

from PIL import Image
from planting import write

import deeptune


def audit(data, **options):
    return deeptune.audit(data, features=False, **options)


def kinds(report) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report, kind):
    """The one finding of a kind, where there is no other finding."""
    assert kinds(report) == {kind}, [finding.message for finding in report.findings]
    assert len(report.findings) == 1
    return report.findings[0]


def image_file(path, images, labels, **columns):
    return write(path, images=images, labels=labels, **columns)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def two_files(tmp_path, images, labels, **columns):
    def part(rows):
        return {name: values[rows] for name, values in columns.items()}

    train = image_file(tmp_path / "train.parquet", images[:200], labels[:200], **part(slice(0, 200)))
    test = image_file(tmp_path / "test.parquet", images[200:], labels[200:], **part(slice(200, None)))
    return {"train": train, "test": test}
