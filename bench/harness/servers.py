"""The servers that replicas share: throw-away ones of our own, each on the core that is measured."""

import os
import shutil
import statistics
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.building import ROOT, need
from harness.failure import UNAVAILABLE, Failure
from harness.machine import free_port
from harness.processes import Process, accepts

POSTGRES = "PostgreSQL"
REDIS = "redis-server"
REDIS_DURABLE = "redis-server, appendfsync always"

# Makes a cluster as the tests do, and says where it is and how its programs are run. What is installed on the way, or
# missing, is said on stderr.
CLUSTER = """
source scripts/packages.sh; source scripts/postgres.sh
{ need_postgres && create_cluster; } >&2
printf '%s\\0' "$POSTGRES_FOLDER" "$POSTGRES_TOOLS" ${POSTGRES_AS[@]+"${POSTGRES_AS[@]}"}
"""

# What a write costs that must be on the disk: so many of a page, of which the median counts.
SYNCED_WRITES = 100
PAGE_BYTES = 8192


@dataclass
class Server:
    """Something that keeps a limit for several replicas."""

    name: str
    # As the replicas are told it.
    address: str
    process: Process
    # Where its files are.
    folder: Path

    def cpu_us(self) -> int:
        """The processor time of all its processes, those that have ended included."""
        return self.process.cpu_us()


def start_postgres(core: int, folder: Path, stack: ExitStack) -> Server:
    """PostgreSQL as it comes: every commit is on the disk before it is answered."""
    made = subprocess.run(
        ["bash", "-euc", CLUSTER, "bench/run"], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
    )
    if made.returncode:
        raise Failure("there is no PostgreSQL to measure", UNAVAILABLE)
    place, tools, *as_user = made.stdout.rstrip("\0").split("\0")
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    port = free_port()
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "100"}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = [*as_user, f"{tools}/postgres", "-D", f"{place}/data", "-p", port, *settings]
    process = Process("postgres", command, core, folder)
    stack.callback(process.stop)
    ready = [f"{tools}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    process.wait_for(lambda: subprocess.run(ready, check=False).returncode == 0)
    return Server(POSTGRES, f"postgres://postgres@127.0.0.1:{port}/postgres", process, Path(place))


def start_redis(core: int, folder: Path, stack: ExitStack, name: str) -> Server:
    """Redis in memory only, or with every command on the disk before it is answered."""
    port = free_port()
    place = folder / name.replace(", ", "-").replace(" ", "-")
    place.mkdir()
    durability = ["--appendonly", "no"]
    if name == REDIS_DURABLE:
        durability = ["--appendonly", "yes", "--appendfsync", "always"]
    command = [need("redis-server", "redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "", *durability]
    process = Process(name, [*command, "--dir", place], core, place)
    stack.callback(process.stop)
    process.wait_for(lambda: accepts(port))
    return Server(name, f"127.0.0.1:{port}", process, place)


def synced_write_ms(folder: Path) -> float:
    """What it takes here until a page is on the disk: the floor of whatever is durable."""
    times = []
    with (folder / "synced-writes").open("wb", buffering=0) as file:
        for _ in range(SYNCED_WRITES):
            start = time.perf_counter()
            file.write(bytes(PAGE_BYTES))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)
