"""Instructions, counted by valgrind: the figure that hardly depends on who else uses the machine."""

import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
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
DEAREST = 20
OWN = "freellmapi::"
VALGRIND = ["valgrind", "--tool=callgrind", "--quiet", "--callgrind-out-file={file}"]
START = {systems.FORWARDER: systems.start_forwarder, systems.GATEWAY: systems.start_gateway}
KINDS = {"JSON request": ("requests", {}), "streamed event": ("events", {"requests": 1, "pace_ms": PACE_MS})}


@dataclass
class Counts:
    """Instructions of one more request or event, by system and kind, in all and by function."""

    totals: dict[str, dict[str, float]] = field(default_factory=dict)
    itself: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    with_callees: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def note(self, name: str, kind: str, few: "Profile", many: "Profile") -> None:
        """Adds what one more of a kind costs a system."""

        def each(part: str) -> dict[str, float]:
            less, more = getattr(few, part), getattr(many, part)
            return {function: (more[function] - less.get(function, 0)) / (MANY - FEW) for function in more}

        self.totals.setdefault(name, {})[kind] = (many.total - few.total) / (MANY - FEW)
        self.itself.setdefault(name, {})[kind] = each("itself")
        self.with_callees.setdefault(name, {})[kind] = each("with_callees")

    def as_json(self) -> dict:
        return {"instructions": self.totals, "itself": self.itself, "with_callees": self.with_callees}


@dataclass
class Profile:
    """Instructions of one life of a system, from its start to its end: in all, and by function."""

    total: int
    itself: dict[str, int]
    with_callees: dict[str, int]

    @classmethod
    def read(cls, file: Path) -> "Profile":
        total, itself = annotated(file, inclusive=False)
        _, with_callees = annotated(file, inclusive=True)
        return cls(total, itself, with_callees)


def count(programs: Programs, cores: Cores, folder: Path) -> Counts:
    """Counts for the forwarder and the gateway."""
    counts = Counts()
    for name in START:
        for kind in KINDS:
            print(f"==> {name}, {kind}", file=sys.stderr, flush=True)
            few, many = (profile(programs, cores, folder, name, kind, times) for times in (FEW, MANY))
            counts.note(name, kind, few, many)
    return counts


def profile(programs: Programs, cores: Cores, folder: Path, name: str, kind: str, times: int) -> Profile:
    """Runs a system under valgrind for so many requests or events."""
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
    return Profile.read(file)


def annotated(file: Path, inclusive: bool) -> tuple[int, dict[str, int]]:
    """The instructions of a profile, in all and by function."""
    options = ["--threshold=100", "--show-percs=no", "--auto=no", f"--inclusive={'yes' if inclusive else 'no'}"]
    done = subprocess.run(["callgrind_annotate", *options, str(file)], check=False, capture_output=True, text=True)
    total = re.search(r"^ *([\d,]+) +PROGRAM TOTALS", done.stdout, re.MULTILINE)
    if done.returncode or not total:
        raise Failure(f"callgrind_annotate: {done.stderr.strip() or 'no totals'}")
    costs: dict[str, int] = {}
    for number, function in re.findall(r"^ *([\d,]+)  \S*?:(.+?)(?: \[[^\]]*\])?$", done.stdout, re.MULTILINE):
        # A recursion's depth and a symbol's hash make no other function of it.
        function = re.sub(r"'\d+$", "", re.sub(r"::h[0-9a-f]{16}", "", function))
        cost = whole(number)
        costs[function] = max(costs.get(function, 0), cost) if inclusive else costs.get(function, 0) + cost
    return whole(total[1]), costs


def whole(number: str) -> int:
    """A number with commas."""
    return int(number.replace(",", ""))


def table(counts: Counts) -> str:
    """What one more costs, and the functions in which the gateway spends it."""
    lines = [f"Instructions, callgrind: ({MANY} − {FEW}) of each kind"]
    for kind in KINDS:
        forwarder, gateway = (counts.totals[name][kind] for name in START)
        ratio = f"× forwarder {gateway / forwarder:.2f}"
        lines.append(f"{kind}: forwarder {forwarder:,.0f}, gateway {gateway:,.0f}, {ratio}")
    for kind in KINDS:
        own, other = (counts.itself[name][kind] for name in (systems.GATEWAY, systems.FORWARDER))
        lines.append(f"\n{kind}: dearest functions of the gateway by themselves [of the forwarder]")
        lines += [f"{cost:>9,.0f} [{other.get(name, 0):>7,.0f}]  {name[:110]}" for name, cost in dearest(own)]
        rooms = {name: cost for name, cost in counts.with_callees[systems.GATEWAY][kind].items() if OWN in name}
        lines.append(f"\n{kind}: dearest functions of the gateway's own code, with all that they call")
        lines += [f"{cost:>9,.0f}  {name[:120]}" for name, cost in dearest(rooms)]
    return "\n".join(lines)


def dearest(costs: dict[str, float]) -> list[tuple[str, float]]:
    """The first of them, dearest first."""
    return sorted(costs.items(), key=lambda item: -item[1])[:DEAREST]
