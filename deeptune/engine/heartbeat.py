"""A thread beside the run: heartbeat, memory and GPU in the event log, and requests to stop."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psutil

from deeptune.engine.run_logger import RunLogger
from deeptune.errors import DeepTuneError
from deeptune.memory import memory
from deeptune.runs import RunDirectory
from deeptune.runs.control import take_stop_request
from deeptune.runs.events import Gpu, SampleEvent, StoppingEvent

HEARTBEAT_INTERVAL = 5.0  # seconds between heartbeats
REQUEST_INTERVAL = 0.5  # seconds between checks for a request


class Heartbeat:
    """Logs a sign of life, memory and GPUs from `start` to `stop`, and takes requests to stop."""

    def __init__(self, run: RunDirectory, logger: RunLogger) -> None:
        self._run, self._logger = run, logger
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
        self._process = psutil.Process()

    def start(self) -> None:
        self._process.cpu_percent()  # the first call starts the measuring
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        sampled, announced = time.monotonic(), False
        while not self._over.wait(REQUEST_INTERVAL):
            if (who := take_stop_request(self._run)) is not None:
                self._logger.stop.request(f"asked for {who}")
            if self._logger.stop.reason is not None and not announced:  # by a signal as well
                announced = True
                with suppress(DeepTuneError):
                    self._logger.events.write(StoppingEvent(self._logger.stop.reason))
                    self._logger.status.update(state="stopping", force=True)
            if time.monotonic() - sampled >= HEARTBEAT_INTERVAL:
                sampled = time.monotonic()
                with suppress(DeepTuneError):  # the run itself reports errors of the disk
                    self._logger.events.write(self._sample())
                    self._logger.status.update(force=True)

    def _sample(self) -> SampleEvent:
        """Return the machine now: the run's own GPU, and memory with that of the processes that decode."""
        family = [self._process]
        with suppress(psutil.Error):
            family += self._process.children(recursive=True)
        used = 0
        for process in family:
            with suppress(psutil.Error):
                used += process.memory_info().rss
        gpu = self._logger.gpu
        return SampleEvent(
            process_gib=round(used / 2**30, 3),
            free_gib=round(memory().free / 2**30, 3),
            cpu_percent=self._process.cpu_percent(),
            gpus=() if gpu is None else (Gpu(number=gpu.number, **gpu.reading()),),
        )
