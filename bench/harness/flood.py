"""What a flood of requests without a valid key costs a tenant that has one: the same load quiet and flooded, in turns."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import machine, systems
from harness.building import Programs
from harness.failure import Failure
from harness.machine import Cores
from harness.measuring import SPARE_SECONDS, Load, complaints, median
from harness.plan import CONNECTIONS, Plan
from harness.systems import GATEWAY, System
from harness.tables import aligned

# Requests per second of the tenant. At this rate a window has some thousands of latencies and the core is mostly idle.
RATE = 250
# What is promised: with a flood the p99 is at most so many times what it is when all is quiet.
PROMISED = 1.5

QUIET = "quiet"
# By what the flood presents as its key; none at all is "".
FLOODS = {"bad key": "freellmapi-" + "b2" * 24, "no key": ""}
MANNERS = (QUIET, *FLOODS)

# The flood begins before the tenant's window, and ends after it.
FLOOD_LEAD_MS = 500
# The last priority: where the flood shares a core with who measures, it gets what that one leaves.
NICE = 19


def measure(programs: Programs, cores: Cores, plan: Plan, folder: Path, stack: ExitStack) -> tuple[str, list[str]]:
    """The table, and what went wrong on the way."""
    upstream = systems.start_mock(programs, cores.mock, folder, stack)
    gateway = systems.start_gateway(programs, cores.system, folder, stack, upstream, GATEWAY)
    load = Load(programs, cores.load, folder, stack)
    flood = Flood(programs, flood_core(cores), plan)
    reports: dict[str, list[dict]] = {manner: [] for manner in MANNERS}
    answers: dict[str, list[dict]] = {manner: [] for manner in FLOODS}
    problems = []
    for number in range(plan.repetitions):
        print(f"==> round {number + 1} of {plan.repetitions}", file=sys.stderr, flush=True)
        # Everybody is first, second and last in turn.
        first = number % len(MANNERS)
        for manner in MANNERS[first:] + MANNERS[:first]:
            steady = {"rate": RATE, "warm_up_ms": plan.steady_warm_up, "ms": plan.steady}
            with flood.over(gateway, manner) as seen:
                report = load.ask("open", gateway, **steady)
            reports[manner].append(report)
            problems += [f"{manner}: {text}" for text in complaints(report)]
            if manner in FLOODS:
                answers[manner].append(seen)
                problems += [f"{manner}: the flood was answered {status}" for status in strange(seen)]
    problems += broken_promises(reports)
    head = (
        f"{machine.description()}; {cores}, flood on {flood_core(cores)}.\n"
        f"A tenant asks {RATE} times a second; the flood is {CONNECTIONS} connections that ask again at once. "
        f"Median of {plan.repetitions} rounds (least to most)."
    )
    return f"{head}\n\n{table(reports, answers)}", problems


def flood_core(cores: Cores) -> int:
    """A core of its own where there are four; else the load client's, at the last priority."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[3] if len(allowed) > 3 else cores.load


class Flood:
    """The load client once more, as somebody without a key."""

    def __init__(self, programs: Programs, core: int, plan: Plan):
        self._program, self._core = programs.load, core
        self._ms = plan.steady_warm_up + plan.steady

    @contextmanager
    def over(self, system: System, manner: str):
        """Floods while the block runs; what the flood has seen is filled in when it is left. Nothing when it is quiet."""
        seen: dict = {}
        if manner not in FLOODS:
            yield seen
            return
        words = ["flood", "--to", f"127.0.0.1:{system.port}", "--key", FLOODS[manner]]
        words += ["--connections", str(CONNECTIONS), "--warm-up-ms", str(FLOOD_LEAD_MS), "--ms", str(self._ms)]
        process = subprocess.Popen(
            ["nice", "-n", str(NICE), "taskset", "--cpu-list", str(self._core), str(self._program), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=machine.raise_open_files,
        )
        try:
            yield seen
            output, errors = process.communicate(timeout=SPARE_SECONDS)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise Failure(f"{system.name}: {errors.strip()}")
        seen.update(json.loads(output))


def strange(seen: dict) -> list[str]:
    """Statuses other than the one that a flood is to get."""
    return [status for status in seen["statuses"] if status != "401"]


def quantile(reports: list[dict], name: str) -> list[float]:
    return [report["latency"][name] / 1000 for report in reports]


def ratios(reports: dict[str, list[dict]], manner: str, name: str) -> list[float]:
    """How many times the quiet one's, round by round."""
    pairs = zip(quantile(reports[manner], name), quantile(reports[QUIET], name))
    return [value / quiet for value, quiet in pairs]


def broken_promises(reports: dict[str, list[dict]]) -> list[str]:
    worst = {manner: median(ratios(reports, manner, "p99_us")) for manner in FLOODS}
    return [
        f"{manner}: p99 is {ratio:.2f} times the quiet one; promised is {PROMISED}"
        for manner, ratio in worst.items()
        if ratio > PROMISED
    ]


def table(reports: dict[str, list[dict]], answers: dict[str, list[dict]]) -> str:
    rows = [["", "p50 ms", "× quiet", "p99 ms", f"× quiet (target {PROMISED})", "core busy", "flood answers/s"]]
    for manner in MANNERS:
        row = [manner]
        for name in ("p50_us", "p99_us"):
            row.append(spread(quantile(reports[manner], name), ".3f"))
            row.append("–" if manner == QUIET else spread(ratios(reports, manner, name), ".2f"))
        row.append(f"{median([report['requests']['core_share'] for report in reports[manner]]):.0%}")
        flooded = [seen["requests"]["per_second"] for seen in answers.get(manner, [])]
        row.append(spread(flooded, ",.0f") if flooded else "–")
        rows.append(row)
    return aligned(rows)


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
