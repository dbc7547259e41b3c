"""Instructions, counted by valgrind: the figure that hardly depends on who else uses the machine."""

import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness import systems
from harness.building import Programs
from harness.failure import Failure
from harness.machine import Cores
from harness.measuring import Load

# A difference of two counts: starting, stopping and the first requests cancel each other out.
FEW, MANY = 300, 1300
# Long enough between two events that each wakes the system by itself, also when it runs under valgrind.
PACE_MS = 5
DEAREST = 15
VALGRIND = ["valgrind", "--tool=callgrind", "--quiet", "--callgrind-out-file={file}"]
START = {systems.FORWARDER: systems.start_forwarder, systems.GATEWAY: systems.start_gateway}
KINDS = {"JSON request": ("requests", {}), "streamed event": ("events", {"requests": 1, "pace_ms": PACE_MS})}


@dataclass
class Counts:
    """Instructions of one more request or event, by system and kind, in all and by function."""

    totals: dict[str, dict[str, float]]
    functions: dict[str, dict[str, dict[str, float]]]

    def as_json(self) -> dict:
        return {"instructions": self.totals, "functions": self.functions}


def count(programs: Programs, cores: Cores, folder: Path) -> Counts:
    """Counts for the forwarder and the gateway."""
    totals, functions = {}, {}
    for name in START:
        for kind in KINDS:
            print(f"==> {name}, {kind}", file=sys.stderr, flush=True)
            few, many = (profile(programs, cores, folder, name, kind, times) for times in (FEW, MANY))
            each = {key: (many[key] - few.get(key, 0)) / (MANY - FEW) for key in many}
            functions.setdefault(name, {})[kind] = each
            totals.setdefault(name, {})[kind] = sum(each.values())
    return Counts(totals, functions)


def profile(programs: Programs, cores: Cores, folder: Path, name: str, kind: str, times: int) -> dict[str, int]:
    """Instructions by function of one life of a system, from its start to its end."""
    place = folder / f"{name}-{kind}-{times}".replace(" ", "-")
    place.mkdir()
    file = place / "callgrind.out"
    under = [word.format(file=file) for word in VALGRIND]
    varied, options = KINDS[kind]
    with ExitStack() as stack:
        upstream = systems.start_mock(programs, cores.mock, place, stack)
        system = START[name](programs, cores.system, place, stack, upstream, under=under)
        Load(programs, cores.load, place, stack).ask("counted", system, **options, **{varied: times})
        # It drains and writes its counts; under valgrind that takes its time.
        system.process.stop(seconds=60)
    return self_costs(file)


def self_costs(file: Path) -> dict[str, int]:
    """Instructions by function, without those of what it calls."""
    command = ["callgrind_annotate", "--threshold=100", "--show-percs=no", "--auto=no", str(file)]
    text = subprocess.run(command, check=False, capture_output=True, text=True)
    if text.returncode:
        raise Failure(f"callgrind_annotate: {text.stderr.strip()}")
    costs: dict[str, int] = {}
    for line in text.stdout.splitlines():
        if found := re.match(r" *([\d,]+)  \S*?:(.+?)(?: \[[^\]]*\])?$", line):
            function = re.sub(r"'\d+$", "", re.sub(r"::h[0-9a-f]{16}", "", found[2]))
            costs[function] = costs.get(function, 0) + int(found[1].replace(",", ""))
    return costs


def table(counts: Counts) -> str:
    """What one more costs, and the functions in which the gateway spends it."""
    lines = [f"Instructions, callgrind, ({MANY} − {FEW}) of each"]
    for kind in KINDS:
        forwarder, gateway = (counts.totals[name][kind] for name in START)
        lines.append(
            f"{kind}: forwarder {forwarder:,.0f}, gateway {gateway:,.0f}, × forwarder {gateway / forwarder:.2f}"
        )
    for kind in KINDS:
        own, other = (counts.functions[name][kind] for name in (systems.GATEWAY, systems.FORWARDER))
        lines.append(f"\nWhere the gateway spends a {kind} (itself, in brackets the forwarder):")
        for function, cost in sorted(own.items(), key=lambda item: -item[1])[:DEAREST]:
            lines.append(f"{cost:>9,.0f} [{other.get(function, 0):>7,.0f}]  {function[:110]}")
    return "\n".join(lines)
