"""DeepTune: fine-tune pretrained image and text backbones on your own Parquet file."""

__version__ = "0.1.0"
