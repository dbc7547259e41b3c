"""The tables that a run ends with."""

from harness.measuring import Results, median
from harness.plan import CONNECTIONS, REQUESTS_PER_SECOND, STREAMS_AT_ONCE
from harness.systems import DIRECT, FORWARDER, NGINX

# Below this share of its core a system was not saturated: the client was the limit.
BUSY = 0.95


def all_tables(results: Results) -> str:
    """Everything, for a terminal."""
    rounds = results.plan.repetitions
    head = [
        f"{results.machine}; {results.cores}.",
        f"Median of {rounds} interleaved rounds, (least to most); × is the median of the ratios within a round.",
        "Figures of one machine in one run: only the ratios travel.",
    ]
    parts = ["\n".join(head), saturated(results), steady(results), streaming(results), memory(results)]
    return "\n\n".join(parts)


class Series:
    """One figure of every system, round by round."""

    def __init__(self, reports: dict[str, list[dict]], *path: str):
        self._values = {name: [dig(report, path) for report in rounds] for name, rounds in reports.items()}

    def of(self, name: str, form: str = ",.0f") -> str:
        """The median and the spread; a dash where there is none."""
        values = self._known(name)
        if not values:
            return "–"
        return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    def ratio(self, name: str, base: str) -> str:
        """How many times the base's."""
        pairs = list(zip(self._known(name), self._known(base)))
        if name == DIRECT or not pairs:
            return "–"
        return f"{median([value / other for value, other in pairs if other]):.2f}"

    def added(self, name: str) -> str:
        """What comes on top of the mock's own, in milliseconds; the values are microseconds."""
        pairs = list(zip(self._known(name), self._known(DIRECT)))
        if name == DIRECT:
            return f"[{median(self._known(name)) / 1000:.3f}]"
        values = [(value - other) / 1000 for value, other in pairs]
        return f"{median(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})"

    def median(self, name: str) -> float:
        return median(self._known(name))

    def _known(self, name: str) -> list[float]:
        return [value for value in self._values.get(name, []) if value is not None]


def dig(report: dict, path: tuple[str, ...]):
    for name in path:
        report = report[name]
    return report


def saturated(results: Results) -> str:
    rate = Series(results.saturated, "requests", "per_second")
    cpu = Series(results.saturated, "requests", "cpu_us_each")
    share = Series(results.saturated, "requests", "core_share")
    rows = [["", "requests/s", "× forwarder", "× nginx", "core busy", "CPU ms/1,000", "× forwarder", "× nginx"]]
    idle = []
    for name in results.names:
        is_direct = name == DIRECT
        busy = "–" if is_direct else f"{share.median(name):.0%}"
        if not is_direct and share.median(name) < BUSY:
            idle.append(name)
        ratios = [rate.ratio(name, FORWARDER), rate.ratio(name, NGINX)]
        costs = [cpu.ratio(name, FORWARDER), cpu.ratio(name, NGINX)]
        rows.append([name, rate.of(name), *ratios, busy, "–" if is_direct else cpu.of(name, ".1f"), *costs])
    text = f"Saturated: JSON, {CONNECTIONS} connections, one core\n" + aligned(rows)
    if idle:
        text += f"\nNot saturated, throughput is a lower bound: {'; '.join(idle)}. Compare CPU instead."
    return text


def steady(results: Results) -> str:
    half, most = (Series(results.steady, "latency", quantile) for quantile in ("p50_us", "p99_us"))
    cpu = Series(results.steady, "requests", "cpu_us_each")
    rows = [["", "added p50 ms", "added p99 ms", "CPU ms/1,000", "× forwarder", "× nginx"]]
    for name in results.names:
        cost = "–" if name == DIRECT else cpu.of(name, ".1f")
        ratios = [cpu.ratio(name, FORWARDER), cpu.ratio(name, NGINX)]
        rows.append([name, half.added(name), most.added(name), cost, *ratios])
    title = f"Steady: JSON, {REQUESTS_PER_SECOND} requests/s, open loop; [the mock's own latency]"
    return f"{title}\n{aligned(rows)}"


def streaming(results: Results) -> str:
    cpu = Series(results.streaming, "events", "cpu_us_each")
    first, first_most = (Series(results.streaming, "latency", quantile) for quantile in ("p50_us", "p99_us"))
    age, age_most = (Series(results.streaming, "age", quantile) for quantile in ("p50_us", "p99_us"))
    heads = ["CPU µs/event", "× forwarder", "× nginx", "added first p50 ms", "p99", "added event p50 ms", "p99"]
    rows = [["", *heads]]
    for name in results.names:
        cost = "–" if name == DIRECT else cpu.of(name, ".1f")
        ratios = [cpu.ratio(name, FORWARDER), cpu.ratio(name, NGINX)]
        added = [series.added(name) for series in (first, first_most, age, age_most)]
        rows.append([name, cost, *ratios, *added])
    title = f"Streams: {STREAMS_AT_ONCE} at once, paced; first event from the request, event from the mock's write"
    return f"{title}\n{aligned(rows)}"


def memory(results: Results) -> str:
    count = results.held_streams
    rows = [["", "RSS MiB idle", "after the load", f"at {count:,} open streams", "KiB per stream"]]
    for name in results.names:
        if name == DIRECT:
            continue
        held = results.held[name]["rss_kib"]
        each = (held - results.idle_kib[name]) / max(count, 1)
        sizes = [results.idle_kib[name], results.loaded_kib[name], held]
        rows.append([name, *(f"{size / 1024:.1f}" for size in sizes), f"{each:.1f}"])
    text = "Memory\n" + aligned(rows)
    if count < results.plan.held_streams:
        text += f"\n{results.plan.held_streams:,} were wanted; `ulimit -Hn` allows {count:,} (two files for each)."
    return text


def aligned(rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "─" * max(map(len, lines)))
    return "\n".join(lines)
