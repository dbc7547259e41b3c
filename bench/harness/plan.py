"""How long and how often is measured."""

from dataclasses import dataclass, replace

from harness.failure import USAGE, Failure

LEAST_REPETITIONS = 3
# Fifty events a second, a common pace of public providers: each of them wakes what it passes through.
PACE_MS = 20
STREAMS_AT_ONCE = 200
REQUESTS_PER_SECOND = 500
CONNECTIONS = 64
# Streams that are only held say a word now and then, so that they are known to be alive.
HELD_PACE_MS = 2000
HELD_EVENTS = 1000


@dataclass(frozen=True)
class Plan:
    """Times in milliseconds. A window counts after its warm-up."""

    repetitions: int
    saturated_warm_up: int
    saturated: int
    steady_warm_up: int
    steady: int
    stream_events: int
    streaming: int
    held_streams: int
    held_settle: int

    @property
    def stream_ms(self) -> int:
        """How long one stream lasts: so long it takes until as many are open as are wanted."""
        return self.stream_events * PACE_MS

    @property
    def streams_per_second(self) -> float:
        """Arrivals that keep so many open at once."""
        return STREAMS_AT_ONCE * 1000 / self.stream_ms

    def with_repetitions(self, wanted: int | None) -> "Plan":
        """The same with another number of rounds."""
        if wanted is None:
            return self
        if wanted < LEAST_REPETITIONS:
            raise Failure(f"--repetitions must be {LEAST_REPETITIONS} or more: a median needs them", USAGE)
        return replace(self, repetitions=wanted)


FULL = Plan(
    repetitions=3,
    saturated_warm_up=1000,
    saturated=5000,
    steady_warm_up=1000,
    steady=10000,
    stream_events=250,
    streaming=8000,
    held_streams=10000,
    held_settle=3000,
)

# Everything once round takes three seconds a system.
QUICK = Plan(
    repetitions=3,
    saturated_warm_up=200,
    saturated=500,
    steady_warm_up=200,
    steady=800,
    stream_events=40,
    streaming=700,
    held_streams=1000,
    held_settle=500,
)
