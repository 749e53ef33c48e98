"""The process that does a run: `python -m deeptune.engine.runner DIRECTORY [--force] [-- WHAT THE PERSON TYPED]`.

It holds the run's lock, ignores SIGHUP, and turns SIGTERM and SIGINT into a stop at the next step. It reports only
through files in the run directory.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeptune.engine.heartbeat import Heartbeat
from deeptune.engine.run_logger import RunLogger
from deeptune.errors import DeepTuneError
from deeptune.runs import RunDirectory
from deeptune.runs.control import StopFlag, take_stop_request
from deeptune.runs.files import remove_unfinished
from deeptune.runs.lock import run_lock
from deeptune.signals import signal_handlers
from deeptune.spec import load_spec


def do_run(run: RunDirectory, *, force: bool = False, argv: list[str] | None = None) -> dict[str, Any]:
    """Do or resume the run whose spec is in `run`, in this process, and return the content of result.json.

    `force` resumes though spec, data or backbone changed. Raises what ended the run, after it was recorded.
    """
    stop = StopFlag()
    with _signals(stop), run_lock(run):
        take_stop_request(run)  # one to an earlier runner, before anyone can know that this runner is at work
        spec = load_spec(run.spec)
        remove_unfinished(run.path)
        run.result.unlink(missing_ok=True)  # of the attempt before: only now is it not the last word
        logger = RunLogger(run, stop)
        logger.status.update(force=True)
        heartbeat = Heartbeat(run, logger)
        heartbeat.start()
        try:
            from deeptune.engine.run import execute  # takes seconds, in which the run already shows as starting

            # What torch imports on the first use of an optimizer, while the data is read. torchvision needs it too, so
            # that processes which decode images never fork amid this import.
            threading.Thread(target=importlib.import_module, args=("torch._dynamo",), daemon=True).start()
            return execute(spec, run, logger=logger, force=force, argv=argv)
        finally:
            heartbeat.stop()
            logger.events.close()


@contextmanager
def _signals(stop: StopFlag) -> Iterator[None]:
    """Turn SIGTERM and the first SIGINT into a stop request, let a second SIGINT end the process, and ignore SIGHUP."""

    def on_terminate(number: int, _frame: object) -> None:
        stop.request(f"by {signal.Signals(number).name}")

    def on_interrupt(_number: int, _frame: object) -> None:
        if stop.reason is not None:
            raise KeyboardInterrupt
        stop.request("by Ctrl+C or SIGINT")

    with signal_handlers({signal.SIGTERM: on_terminate, signal.SIGINT: on_interrupt, signal.SIGHUP: signal.SIG_IGN}):
        yield


def main() -> int:
    """Train the run whose folder the command line names, and return the exit code."""
    asked = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv
    run = RunDirectory(Path(sys.argv[1]))
    try:
        do_run(run, force="--force" in sys.argv[2:3], argv=asked)
    except DeepTuneError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
