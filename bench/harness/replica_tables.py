"""The tables that a run with several replicas ends with."""

from harness.measuring import median
from harness.replicas import ASKERS, CLOSED, CONTENDERS, MEMORY, OPEN, RATE, REPLICAS, ROW_LOCK, SCRIPT
from harness.replicas import Cell, Results
from harness.tables import BUSY, aligned


def all_tables(results: Results) -> str:
    """Everything, for a terminal."""
    head = [
        f"{results.machine}; {results.cores}.",
        f"A page is written and synced here in {results.synced_write_ms:.2f} ms (median).",
        f"Median of {results.rounds} interleaved rounds, (least to most); × is the median of the ratios within a round.",
    ]
    return "\n\n".join(["\n".join(head), closed(results), opened(results)])


class Figures:
    """One figure of all cells of one manner, round by round."""

    def __init__(self, results: Results, manner: str, name: str):
        self._cells = [cell for cell in results.cells if cell.manner == manner]
        self._name = name

    def values(self, contender: str, replicas: int) -> list[float]:
        mine = (cell for cell in self._cells if cell.contender == contender and cell.replicas == replicas)
        return [getattr(cell, self._name) for cell in mine if getattr(cell, self._name) is not None]

    def of(self, contender: str, replicas: int, form: str) -> str:
        """The median and the spread; a dash where there is none."""
        return spread(self.values(contender, replicas), form)

    def ratio(self, contender: str, base: str, replicas: int) -> str:
        """How many times the base's with as many replicas."""
        pairs = zip(self.values(contender, replicas), self.values(base, replicas))
        ratios = [value / other for value, other in pairs if other]
        return f"{median(ratios):.2f}" if ratios and contender != MEMORY.name else "–"

    def added(self, contender: str, replicas: int) -> str:
        """What comes on top of what is answered from memory, in the same round."""
        own, floor = self.values(contender, replicas), self.values(MEMORY.name, replicas)
        if contender == MEMORY.name:
            return f"[{median(own):.2f}]" if own else "–"
        return spread([value - other for value, other in zip(own, floor)], "+.2f")


def spread(values: list[float], form: str) -> str:
    if not values:
        return "–"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def each_row(results: Results, manner: str):
    """A contender's name, a number of replicas, and the cells of both."""
    for contender in CONTENDERS:
        for replicas in REPLICAS:
            mine = (contender.name, replicas, manner)
            cells = [cell for cell in results.cells if (cell.contender, cell.replicas, cell.manner) == mine]
            yield contender.name if replicas == REPLICAS[0] else "", contender.name, replicas, cells


def closed(results: Results) -> str:
    rate, cpu = (Figures(results, CLOSED, name) for name in ("per_second", "server_cpu_us_each"))
    heads = ["admissions/s", "× FOR UPDATE", "× Redis", "server CPU ms/1,000", "core busy", "clients", "leases"]
    rows = [["", "replicas", *heads]]
    for title, name, replicas, cells in each_row(results, CLOSED):
        ratios = [rate.ratio(name, base.name, replicas) for base in (ROW_LOCK, SCRIPT)]
        shares = [share(cells, "server_core_share"), share(cells, "client_core_share"), share(cells, "lease_share")]
        cost = cpu.of(name, replicas, ",.0f")
        rows.append([title, str(replicas), rate.of(name, replicas, ",.0f"), *ratios, cost, *shares])
    text = f"Closed loop: {ASKERS} requests under way per replica\n{aligned(rows)}"
    if any(cell.client_core_share > BUSY and cell.contender != MEMORY.name for cell in results.cells):
        text += "\nWhere the clients are as busy as that they are the limit: a lower bound. Compare the server's CPU."
    return text


def share(cells: list[Cell], name: str) -> str:
    values = [getattr(cell, name) for cell in cells if getattr(cell, name) is not None]
    return f"{median(values):.0%}" if values else "–"


def opened(results: Results) -> str:
    half, most, cpu = (Figures(results, OPEN, name) for name in ("p50_ms", "p99_ms", "server_cpu_us_each"))
    heads = ["added p50 ms", "added p99 ms", "server CPU ms/1,000", "core busy", "leases", "not answered"]
    rows = [["", "replicas", *heads]]
    for title, name, replicas, cells in each_row(results, OPEN):
        lost = sum(cell.unanswered for cell in cells)
        figures = [half.added(name, replicas), most.added(name, replicas), cpu.of(name, replicas, ",.0f")]
        shares = [share(cells, "server_core_share"), share(cells, "lease_share")]
        rows.append([title, str(replicas), *figures, *shares, str(lost) if lost else "–"])
    title = f"Open loop: {RATE} requests/s due at each replica; [the clients' own latency]"
    return f"{title}\n{aligned(rows)}"
