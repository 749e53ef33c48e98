"""Checks a machine for hindrances, each a line with its remedy. A process of its own asks torch."""

from deeptune.doctor.checkup import checkup
from deeptune.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "checkup"]
