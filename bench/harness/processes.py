"""Child processes: each on its core, each ended by its id."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from harness.failure import Failure
from harness.machine import raise_open_files

START_SECONDS = 20
STOP_SECONDS = 10
POLL_SECONDS = 0.02


class Process:
    """A program that was started here, in a session of its own, so that Ctrl-C ends it through us."""

    def __init__(self, name: str, command: list, core: int, folder: Path, environment: dict | None = None):
        self.name = name
        self._output = folder / f"{name}.out"
        self._log = folder / f"{name}.log"
        # Nothing is inherited: a provider's key in the shell would add a real provider.
        clean = {"PATH": os.environ["PATH"], "HOME": str(folder)}

        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            raise_open_files()

        with self._output.open("wb") as output, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                cwd=folder,
                env=clean | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def pids(self) -> list[int]:
        """Itself and its children."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [self.pid, *(int(child) for task in tasks for child in task.read_text().split())]

    def cpu_us(self) -> int:
        """The processor time of all of them, children that have ended included."""
        while True:
            try:
                return cpu_us(self.pids())
            except FileNotFoundError:
                # A child ended between the two looks: now its time is told by its parent.
                continue

    def rss_kib(self) -> int:
        """What all of them hold, resident."""
        status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in self.pids())
        return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    def printed_port(self) -> int:
        """The port that it prints as its first line."""
        self.wait_for(lambda: "\n" in self._output.read_text())
        return int(self._output.read_text().partition("\n")[0])

    def wait_until_answering(self, url: str) -> None:
        """Until something answers there, whatever it says."""
        self.wait_for(lambda: answers(url))

    def wait_for(self, condition, seconds: float = START_SECONDS):
        """Polls `condition` until it holds, and returns what it gave."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"{self.name} did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_SECONDS)
        return value

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL to it and its children when that does not end it."""
        if self._process.poll() is not None:
            return
        pids = self.pids()
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in pids:
                kill(pid)
            self._process.wait()


def kill(pid: int) -> None:
    """Ends a process that may have ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def cpu_us(pids: list[int]) -> int:
    """User and system time of these processes and of children that they had, in microseconds; in steps of a tick."""
    ticks = 0
    for pid in pids:
        # The name, which may hold anything, ends with the last bracket. Then fields 14 to 17 of proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether an HTTP server is there."""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
