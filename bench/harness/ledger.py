"""What a limit costs that outlives the process: the gateway with one and without, in turns."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from harness import building, machine, systems
from harness.building import Programs
from harness.failure import Failure
from harness.machine import Cores
from harness.measuring import Load, complaints, median
from harness.plan import Plan
from harness.systems import GATEWAY, GATEWAY_LIMITED, System
from harness.tables import aligned

# Connections of the closed loop, and requests per second of the open one: many admissions at once, and one at a time.
CONNECTIONS = 16
RATE = 300

NAMES = (GATEWAY, GATEWAY_LIMITED)


def measure(programs: Programs, cores: Cores, plan: Plan, folder: Path, stack: ExitStack) -> tuple[str, list[str]]:
    """The table, and what went wrong on the way."""
    upstream = systems.start_mock(programs, cores.mock, folder, stack)
    pair = [systems.start_gateway(programs, cores.system, folder, stack, upstream, name) for name in NAMES]
    load = Load(programs, cores.load, folder, stack)
    reports: dict[str, list[dict[str, dict]]] = {"closed": [], "open": []}
    problems = []
    for number in range(1, plan.repetitions + 1):
        print(f"==> round {number} of {plan.repetitions}", file=sys.stderr, flush=True)
        for manner in reports:
            # The order changes, so that what the machine does over a round favours neither.
            order = pair if number % 2 else pair[::-1]
            one = {system.name: ask(load, plan, manner, system) for system in order}
            reports[manner].append(one)
            problems += [f"{name}, {manner}: {text}" for name, report in one.items() for text in complaints(report)]
    head = f"{machine.description()}; {cores}.\nMedian of {plan.repetitions} rounds (least to most)."
    return f"{head}\n\n{table(reports)}", problems


def ask(load: Load, plan: Plan, manner: str, system: System) -> dict:
    if manner == "closed":
        window = {"warm_up_ms": plan.saturated_warm_up, "ms": plan.saturated}
        return load.ask("closed", system, connections=CONNECTIONS, **window)
    return load.ask("open", system, rate=RATE, warm_up_ms=plan.steady_warm_up, ms=plan.steady)


def table(reports: dict[str, list[dict[str, dict]]]) -> str:
    titles = {"closed": f"{CONNECTIONS} connections, closed loop", "open": f"{RATE}/s, open loop"}
    rows = [["", "CPU µs without", "with", "added (target 60)", "p50 ms without", "with", "added (target 1)"]]
    for manner, rounds in reports.items():
        cpu = [[report[name]["requests"]["cpu_us_each"] for report in rounds] for name in NAMES]
        half = [[report[name]["latency"]["p50_us"] / 1000 for report in rounds] for name in NAMES]
        rows.append([titles[manner], *compared(cpu, ".0f"), *compared(half, ".3f")])
    return aligned(rows)


def compared(pair: list[list[float]], form: str) -> list[str]:
    """The medians, and the median of the differences within a round with its spread."""
    without, limited = pair
    added = [after - before for before, after in zip(without, limited)]
    spread = f"{median(added):+{form}} ({min(added):+{form}} to {max(added):+{form}})"
    return [f"{median(without):{form}}", f"{median(limited):{form}}", spread]


def decisions() -> str:
    """What refusals, estimates and offers to those who wait cost in memory, from the library itself."""
    return "\n\n".join(example(name) for name in ("decisions", "wait_room"))


def example(name: str) -> str:
    command = ["cargo", "run", "--release", "--locked", "--quiet", "--example", name]
    done = subprocess.run(command, cwd=building.ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failure(f"the example '{name}' does not run")
    return done.stdout.rstrip()
