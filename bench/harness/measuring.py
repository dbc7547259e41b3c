"""One run over all systems, in rounds, so that what the machine does meanwhile meets all of them."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness import machine, systems
from harness.building import Programs
from harness.failure import Failure
from harness.machine import Cores
from harness.plan import (
    CONNECTIONS,
    HELD_EVENTS,
    HELD_PACE_MS,
    PACE_MS,
    REQUESTS_PER_SECOND,
    Plan,
)
from harness.systems import DIRECT, System

# How long a system is left alone before its memory at rest is read, and between two measurements.
REST_SECONDS = 0.5
PAUSE_SECONDS = 0.05
# Over its windows a measurement may take so much longer before it counts as stuck.
SPARE_SECONDS = 60


@dataclass
class Results:
    """Every report of the load client, by system: one for each round, and of its memory."""

    plan: Plan
    cores: Cores
    machine: str
    names: list[str]
    saturated: dict[str, list[dict]] = field(default_factory=dict)
    steady: dict[str, list[dict]] = field(default_factory=dict)
    streaming: dict[str, list[dict]] = field(default_factory=dict)
    idle_kib: dict[str, int] = field(default_factory=dict)
    loaded_kib: dict[str, int] = field(default_factory=dict)
    held: dict[str, dict] = field(default_factory=dict)
    held_streams: int = 0

    def problems(self) -> list[str]:
        """What went wrong on the way: figures beside a failure are figures of something else."""
        found = []
        for kind in ("saturated", "steady", "streaming"):
            for name, reports in getattr(self, kind).items():
                found += [f"{name}, {kind}: {text}" for report in reports for text in complaints(report)]
        for name, report in self.held.items():
            found += [f"{name}, open streams: {text}" for text in complaints(report)]
            if report["streams"] < self.held_streams:
                found.append(f"{name}: only {report['streams']} of {self.held_streams} streams began")
        return found

    def as_json(self) -> dict:
        kinds = ("saturated", "steady", "streaming", "idle_kib", "loaded_kib", "held", "held_streams")
        return {"machine": self.machine, "cores": str(self.cores), "plan": vars(self.plan)} | {
            kind: getattr(self, kind) for kind in kinds
        }


def complaints(report: dict) -> list[str]:
    """The failures of one report."""
    failures, unanswered = report["failures"], report.get("unanswered", 0)
    found = []
    if failures["count"]:
        found.append(f"{failures['count']} requests failed, the first: {failures['first']}")
    if unanswered:
        found.append(f"{unanswered} requests were not answered in time")
    return found


class Load:
    """The load client, on its core."""

    def __init__(self, programs: Programs, core: int, folder: Path, stack: ExitStack):
        self._program, self._core, self._folder, self._stack = programs.load, core, folder, stack

    def ask(self, manner: str, system: System, **options) -> dict:
        """One measurement; what it reports."""
        words = [manner, "--to", f"127.0.0.1:{system.port}", "--key", systems.KEY]
        if system.process:
            words += ["--watch", ",".join(map(str, system.process.pids()))]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        seconds = (options.get("warm_up_ms", 0) + options.get("ms", 0)) / 1000 + SPARE_SECONDS
        command = ["taskset", "--cpu-list", str(self._core), str(self._program), *words]
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=seconds,
                start_new_session=True,
                preexec_fn=machine.raise_open_files,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"{system.name}: the load client is stuck in '{manner}'") from None
        if done.returncode:
            raise Failure(f"{system.name}: {done.stderr.strip()}")
        time.sleep(PAUSE_SECONDS)
        return json.loads(done.stdout)


def measure(programs: Programs, cores: Cores, plan: Plan, folder: Path, stack: ExitStack) -> Results:
    """Starts everything, measures it, and leaves it running: `stack` ends it."""
    upstream = systems.start_mock(programs, cores.mock, folder, stack)
    common = (programs, cores.system, folder, stack, upstream)
    measured = [systems.start_forwarder(*common)]
    if programs.nginx:
        measured.append(systems.start_nginx(*common))
    measured.append(systems.start_gateway(*common))
    measured.append(systems.start_gateway(*common, name=systems.GATEWAY_LOGGING))
    direct = System(DIRECT, upstream)
    names = [system.name for system in (direct, *measured)]
    results = Results(plan, cores, machine.description(), names)
    load = Load(programs, cores.load, folder, stack)

    time.sleep(REST_SECONDS)
    results.idle_kib = {system.name: system.process.rss_kib() for system in measured}
    for number in range(1, plan.repetitions + 1):
        print(f"==> round {number} of {plan.repetitions}", file=sys.stderr, flush=True)
        for system in (direct, *measured):
            one_round(results, load, system)
    results.loaded_kib = {system.name: system.process.rss_kib() for system in measured}
    results.held_streams = machine.streams_allowed(plan.held_streams)
    for system in measured:
        print(f"==> {results.held_streams} open streams at {system.name}", file=sys.stderr, flush=True)
        results.held[system.name] = hold(results, load, system)
    return results


def one_round(results: Results, load: Load, system: System) -> None:
    """All measurements of speed of one system, once."""
    plan = results.plan

    def note(kind: dict, report: dict) -> None:
        kind.setdefault(system.name, []).append(report)

    saturated = {"connections": CONNECTIONS, "warm_up_ms": plan.saturated_warm_up, "ms": plan.saturated}
    note(results.saturated, load.ask("closed", system, **saturated))
    steady = {"rate": REQUESTS_PER_SECOND, "warm_up_ms": plan.steady_warm_up, "ms": plan.steady}
    note(results.steady, load.ask("open", system, **steady))
    streaming = {
        "rate": plan.streams_per_second,
        "events": plan.stream_events,
        "pace_ms": PACE_MS,
        # Until the first streams end there are fewer than wanted.
        "warm_up_ms": plan.stream_ms,
        "ms": plan.streaming,
    }
    note(results.streaming, load.ask("open", system, **streaming))


def hold(results: Results, load: Load, system: System) -> dict:
    """Streams that are opened and left open, and what they take of memory."""
    held = {"streams": results.held_streams, "events": HELD_EVENTS, "pace_ms": HELD_PACE_MS}
    return load.ask("held", system, **held, warm_up_ms=results.plan.held_settle)


def median(values: list[float]) -> float:
    """The median, as everywhere here: rounds that were disturbed do not move it."""
    return statistics.median(values)
