"""What of a machine could hinder a run, each as one line with its remedy. Torch is asked in a process of its own."""

from deeptune.doctor.checkup import checkup
from deeptune.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "checkup"]
