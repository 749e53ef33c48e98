"""The command line. Importing it imports nothing heavy, as commands import the engine in their bodies."""

from deeptune.cli.app import main

__all__ = ["main"]
