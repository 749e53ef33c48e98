"""Probes backbones on a person's rows: heads on frozen features by cross-validation, and their advice."""
