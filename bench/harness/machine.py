"""What the machine allows: cores and open files."""

import os
import resource
import socket
from dataclasses import dataclass

from harness.failure import UNAVAILABLE, Failure

# Files that a program has open besides its connections; generous.
OTHER_FILES = 200


@dataclass(frozen=True)
class Cores:
    """Which core measures and which is measured. Mock and load client share one unless there is a third."""

    system: int
    mock: int
    load: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise Failure("two cores are needed: one is measured, one measures", UNAVAILABLE)
        return cls(system=allowed[0], mock=allowed[1], load=allowed[min(2, len(allowed) - 1)])

    def __str__(self) -> str:
        return f"measured on core {self.system}, mock on {self.mock}, load client on {self.load}"


def open_files_allowed() -> int:
    """The hard limit of this process: every child raises its own soft one to it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def raise_open_files() -> None:
    """Raises the soft limit to the hard one; called in a child."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def streams_allowed(wanted: int) -> int:
    """As many of the wanted streams as can be open: what is between needs two files for each."""
    return min(wanted, (open_files_allowed() - OTHER_FILES) // 2)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def description() -> str:
    """The processor and the kernel, for the head of a report."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, load average {os.getloadavg()[0]:.1f}"
