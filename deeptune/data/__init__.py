"""Reads rows from a source and makes batches of them.

`loading` and `images.transforms` import torch. The other modules import none.
"""
