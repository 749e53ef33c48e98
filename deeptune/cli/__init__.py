"""The command line. Importing it imports nothing heavy; commands reach for the engine in their bodies."""

from deeptune.cli.app import main

__all__ = ["main"]
