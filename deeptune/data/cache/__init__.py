"""The cache on disk: samples and features that a run keeps for later runs."""
