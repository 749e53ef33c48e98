"""The run directory, and everything that reads or writes it. Viewers import this package, so it needs no torch."""

from deeptune.runs.directory import RunDirectory, find_run, new_run_directory, runs_in
from deeptune.runs.event_log import EventWriter, read_events, read_records
from deeptune.runs.files import write_json, write_text
from deeptune.runs.state import RunState, run_state
from deeptune.runs.status import StatusWriter

__all__ = [
    "EventWriter",
    "RunDirectory",
    "RunState",
    "StatusWriter",
    "find_run",
    "new_run_directory",
    "read_events",
    "read_records",
    "run_state",
    "runs_in",
    "write_json",
    "write_text",
]
