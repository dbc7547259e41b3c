"""One hot limit that several replicas share: who keeps it how fast, and at what cost to the server."""

import json
import math
import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import building, machine, servers
from harness.failure import UNAVAILABLE, Failure
from harness.plan import Plan
from harness.processes import START_SECONDS, cpu_us, kill
from harness.servers import POSTGRES, REDIS, REDIS_DURABLE, Server

REPLICAS = (1, 2, 3)
# Requests that a replica has under way in the closed loop, and that are due each second in the open one.
ASKERS = 32
RATE = 100
# Units that are taken before a measurement, evenly over the limit's window: what is summed up is then as much as it is
# with a limit that has been in use all day.
UNITS_BEFORE = 1000
# Over its window a replica may take so much longer before it counts as stuck.
SPARE_SECONDS = 30

CLOSED, OPEN = "closed", "open"


@dataclass(frozen=True)
class Window:
    """Milliseconds. What happens in the warm-up does not count."""

    warm_up: int
    length: int


# What is held in advance grows with what was asked for lately, so a closed loop needs a while to come up to speed.
WINDOWS = {CLOSED: Window(1000, 2000), OPEN: Window(500, 3000)}
WINDOWS_QUICK = {CLOSED: Window(300, 400), OPEN: Window(100, 600)}


@dataclass(frozen=True)
class Limit:
    """So many requests in a sliding window, of which so many are taken before."""

    max: int
    window_s: int
    units_before: int = UNITS_BEFORE


# Large enough never to be used up, and slow enough that each admission is decided by itself: 28 a second on average.
HOT = Limit(100_000, 3600)
# Fast enough for leases: 167 a second on average for the open loop, and one that a closed loop does not use up.
FAST = Limit(10_000, 60, units_before=0)
ENDLESS = Limit(10_000_000, 60, units_before=0)
# For those who have no leases, and whom a closed loop would use a smaller one up with.
LARGE = Limit(10_000_000, 3600)


@dataclass(frozen=True)
class Contender:
    """Who keeps the limit, by the name that the replica knows it by, and on which server."""

    name: str
    kind: str
    server: str | None
    closed: Limit = HOT
    open: Limit = HOT

    def limit(self, manner: str) -> Limit:
        return self.closed if manner == CLOSED else self.open


MEMORY = Contender("memory, not shared", "memory", None, Limit(10_000_000, 60, 0), Limit(10_000_000, 60, 0))
LEDGER = Contender("shared ledger", "ledger", POSTGRES)
LEDGER_FAST = Contender("shared ledger, fast limit", "ledger", POSTGRES, closed=ENDLESS, open=FAST)
SCRIPT = Contender("Redis script", "redis", REDIS, closed=LARGE)
SCRIPT_DURABLE = Contender("Redis script, durable", "redis", REDIS_DURABLE, closed=LARGE)
ROW_LOCK = Contender("SELECT … FOR UPDATE", "row-lock", POSTGRES, closed=LARGE)

CONTENDERS = (MEMORY, LEDGER, LEDGER_FAST, SCRIPT, SCRIPT_DURABLE, ROW_LOCK)


@dataclass(frozen=True)
class Cell:
    """One measurement: a contender, a number of replicas, a manner of asking, in one round."""

    contender: str
    replicas: int
    manner: str
    round: int
    admitted: int
    per_second: float
    # Of the open loop, from the instant at which a request was due.
    p50_ms: float | None
    p99_ms: float | None
    server_cpu_us_each: float | None
    server_core_share: float | None
    client_core_share: float
    # Of what the ledger admitted, also outside the window.
    lease_share: float | None
    unanswered: int
    failures: int
    first_failure: str | None


@dataclass
class Results:
    """Every cell, and where they were measured."""

    machine: str
    cores: str
    synced_write_ms: float
    rounds: int
    cells: list[Cell]

    def problems(self) -> list[str]:
        """What failed on the way: figures beside a failure are figures of something else."""
        return [
            f"{cell.contender}, {cell.replicas} replicas, {cell.manner}: "
            f"{cell.failures} requests failed, the first: {cell.first_failure}"
            for cell in self.cells
            if cell.failures
        ]

    def as_json(self) -> dict:
        return asdict(self)


class Replica:
    """A process of the example, which waits to be told to begin."""

    def __init__(self, command: list, core: int, log: Path, stack: ExitStack):
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        stack.callback(self._end)

    def wait_until_ready(self) -> None:
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        if not ready or not self._process.stdout.readline():
            raise Failure(f"a replica did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def begin(self) -> None:
        self._process.stdin.write(b"begin\n")
        self._process.stdin.flush()

    def cpu_us(self) -> int:
        return cpu_us([self._process.pid])

    def report(self, seconds: float) -> dict:
        """What it has counted, once it has ended."""
        try:
            output, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failure("a replica is stuck") from None
        if self._process.returncode:
            raise Failure(f"a replica failed:\n{self._log.read_text(errors='replace')[-2000:]}")
        return json.loads(output)

    def _end(self) -> None:
        if self._process.poll() is None:
            kill(self._process.pid)
            self._process.wait()


class Bench:
    """The program and the servers that all cells use."""

    def __init__(self, program: Path, running: dict[str, Server], cores: list[int], folder: Path):
        self._program, self._servers, self._cores, self._folder = program, running, cores, folder
        self._number = 0
        self._database = ""

    def new_round(self) -> None:
        """A database without what earlier rounds have left."""
        self._number += 1
        admin = self._servers[POSTGRES].address
        name = f"round_{self._number}"
        self._run("create", "--postgres", admin, "--database", name)
        self._database = admin.rpartition("/")[0] + "/" + name

    def measure(self, contender: Contender, replicas: int, manner: str, window: Window, number: int) -> Cell:
        """One cell."""
        server = self._servers.get(contender.server)
        limit = self._new_limit(contender, manner)
        span = ["--warm-up-ms", window.warm_up, "--ms", window.length]
        asking = ["--askers", ASKERS] if manner == CLOSED else ["--per-second", RATE]
        command = [self._program, manner, *limit, *span, *asking]
        with ExitStack() as stack:
            fleet = [
                Replica(command, self._cores[place % len(self._cores)], self._folder / f"replica-{place}.log", stack)
                for place in range(replicas)
            ]
            for replica in fleet:
                replica.wait_until_ready()
            for replica in fleet:
                replica.begin()
            time.sleep(window.warm_up / 1000)
            before = used(server, fleet)
            time.sleep(window.length / 1000)
            after = used(server, fleet)
            reports = [replica.report(SPARE_SECONDS) for replica in fleet]
        seconds, server_us, clients_us = (late - early for early, late in zip(before, after))
        clients = clients_us / seconds / 1e6 / min(len(self._cores), replicas)
        place = {"contender": contender.name, "replicas": replicas, "manner": manner, "round": number}
        return cell(place, reports, server_us / seconds if server else None, clients)

    def _new_limit(self, contender: Contender, manner: str) -> list:
        """A limit that nobody has used, or so much as is wanted; the words that name it."""
        self._number += 1
        limit = contender.limit(manner)
        address = self._database if contender.server == POSTGRES else ""
        if not address and contender.server:
            address = self._servers[contender.server].address
        words = ["--contender", contender.kind, "--name", f"limit-{self._number}"]
        words += ["--max", limit.max, "--window-s", limit.window_s, *(["--to", address] if address else [])]
        if limit.units_before:
            self._run("fill", *words, "--units", limit.units_before)
        return words

    def _run(self, *words) -> None:
        command = [str(word) for word in (self._program, *words)]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=SPARE_SECONDS, env={"PATH": ""}
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"'{words[0]}' is stuck") from None
        if done.returncode:
            raise Failure(f"'{words[0]}': {done.stderr.strip()}")


def used(server: Server | None, fleet: list[Replica]) -> tuple[float, int, int]:
    """The time, and the processor time of the server and of the replicas."""
    return (
        time.monotonic(),
        server.cpu_us() if server else 0,
        sum(replica.cpu_us() for replica in fleet),
    )


def cell(place: dict, reports: list[dict], server_us_per_second: float | None, client_core_share: float) -> Cell:
    """What all replicas have seen together."""
    admitted = sum(report["admitted"] for report in reports)
    per_second = sum(report["admitted"] / report["seconds"] for report in reports)
    latencies = sorted(latency / 1000 for report in reports for latency in report["latencies_us"])
    failed = [report["failures"] for report in reports if report["failures"]["count"]]
    is_metered = server_us_per_second is not None
    return Cell(
        **place,
        admitted=admitted,
        per_second=per_second,
        p50_ms=quantile(latencies, 0.50),
        p99_ms=quantile(latencies, 0.99),
        server_cpu_us_each=server_us_per_second / per_second if is_metered and per_second else None,
        server_core_share=server_us_per_second / 1e6 if is_metered else None,
        client_core_share=client_core_share,
        lease_share=lease_share([report["ledger"] for report in reports if report["ledger"]]),
        unanswered=sum(report["unanswered"] for report in reports),
        failures=sum(failures["count"] for failures in failed),
        first_failure=failed[0]["first"] if failed else None,
    )


def lease_share(counters: list[dict]) -> float | None:
    """How much of what was admitted was paid from leases."""
    leased = sum(counted["lease_spends"] for counted in counters)
    admitted = leased + sum(counted["granted"] for counted in counters)
    return leased / admitted if admitted else None


def quantile(ascending: list[float], share: float) -> float | None:
    """The smallest that at least that share of all does not exceed."""
    return ascending[max(math.ceil(len(ascending) * share), 1) - 1] if ascending else None


def measure(plan: Plan, is_quick: bool, folder: Path, stack: ExitStack) -> Results:
    """Starts the servers, and measures every contender with every number of replicas in turns."""
    program = building.example("replicas")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Failure("two cores are needed: one for the server, one for the replicas", UNAVAILABLE)
    core, *others = allowed
    postgres = servers.start_postgres(core, folder, stack)
    redis = [servers.start_redis(core, folder, stack, name) for name in (REDIS, REDIS_DURABLE)]
    running = {server.name: server for server in (postgres, *redis)}
    synced = servers.synced_write_ms(postgres.folder)
    bench = Bench(program, running, others[: max(REPLICAS)], folder)
    windows = WINDOWS_QUICK if is_quick else WINDOWS
    cores = f"servers on core {core}, replicas on {', '.join(map(str, others[: max(REPLICAS)]))}"
    results = Results(machine.description(), cores, synced, plan.repetitions, [])
    for number in range(1, plan.repetitions + 1):
        print(f"==> round {number} of {plan.repetitions}", file=sys.stderr, flush=True)
        bench.new_round()
        # The order changes, so that what the machine does over a round favours nobody.
        order = CONTENDERS if number % 2 else CONTENDERS[::-1]
        for manner in (CLOSED, OPEN):
            for replicas in REPLICAS:
                for contender in order:
                    results.cells.append(bench.measure(contender, replicas, manner, windows[manner], number))
    return results
