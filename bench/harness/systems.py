"""What is measured: how each system is set up and started in front of the mock."""

import os
from dataclasses import dataclass
from pathlib import Path

from harness.building import Programs
from harness.machine import free_port, open_files_allowed
from harness.plan import CONNECTIONS, STREAMS_AT_ONCE
from harness.processes import Process

KEY = "freellmapi-" + "b0" * 24
UPSTREAM_KEY = "upstream-" + "b1" * 16

DIRECT = "mock itself"
FORWARDER = "forwarder"
NGINX = "nginx"
GATEWAY = "gateway"
GATEWAY_LOGGING = "gateway, default log"
GATEWAY_LIMITED = "gateway, one limit"

# Kept ready by nginx towards the mock: more than are ever busy in a measurement of speed.
NGINX_KEPT = 2 * (CONNECTIONS + STREAMS_AT_ONCE)


@dataclass
class System:
    """Something that answers chats on a loopback port. The mock itself has no process here: it is not measured."""

    name: str
    port: int
    process: Process | None = None


def start_mock(programs: Programs, core: int, folder: Path, stack) -> int:
    """Starts the mock and returns its port."""
    process = Process("mock", [programs.mock], core, folder)
    stack.callback(process.stop)
    return process.printed_port()


def start_forwarder(programs: Programs, core: int, folder: Path, stack, upstream: int, under=()) -> System:
    """The yardstick: actix-web and awc, nothing else. `under` is a program that runs it."""
    command = [*under, programs.forwarder, "--upstream", f"127.0.0.1:{upstream}"]
    process = Process(FORWARDER, command, core, folder)
    stack.callback(process.stop)
    port = process.printed_port()
    process.wait_until_answering(f"http://127.0.0.1:{port}/")
    return System(FORWARDER, port, process)


def start_gateway(
    programs: Programs, core: int, folder: Path, stack, upstream: int, name: str = GATEWAY, under=()
) -> System:
    """The gateway with everything on: authentication, validation, quotas (none is set), statistics in SQLite."""
    port = free_port()
    place = folder / name.replace(", ", "-").replace(" ", "-")
    place.mkdir()
    config = place / "freellmapi.toml"
    limit = ONE_LIMIT if name == GATEWAY_LIMITED else ""
    store = place / "gateway.db"
    config.write_text(GATEWAY_CONFIG.format(port=port, store=store, upstream=upstream) + limit)
    environment = {"FREELLMAPI_API_KEY": KEY, "BENCH_UPSTREAM_KEY": UPSTREAM_KEY}
    if name != GATEWAY_LOGGING:
        environment["RUST_LOG"] = "warn"
    process = Process(name, [*under, programs.gateway, "--config", config], core, place, environment)
    stack.callback(process.stop)
    process.wait_until_answering(f"http://127.0.0.1:{port}/readyz")
    return System(name, port, process)


GATEWAY_CONFIG = """\
[server]
listen = "127.0.0.1:{port}"
workers = 1
drain_timeout = "1s"

[store]
url = "sqlite:{store}"

[[provider]]
id = "bench"
base_url = "http://127.0.0.1:{upstream}/v1"
keys_env = "BENCH_UPSTREAM_KEY"
model = [{{ id = "bench" }}]
"""


def start_nginx(programs: Programs, core: int, folder: Path, stack, upstream: int) -> System:
    """The reference. It buffers no stream, because the mock's answer says so in x-accel-buffering."""
    port = free_port()
    place = folder / "nginx"
    for part in ("body", "proxy"):
        (place / part).mkdir(parents=True)
    config = place / "nginx.conf"
    config.write_text(
        NGINX_CONFIG.format(
            # Root's nginx would give its worker away to a user who may not enter the folder.
            user="user root;" if os.geteuid() == 0 else "",
            files=open_files_allowed(),
            # With less than a sixteenth of them free, nginx closes those that have not sent their request yet.
            connections=open_files_allowed() * 9 // 8,
            port=port,
            upstream=upstream,
            kept=NGINX_KEPT,
        )
    )
    command = [programs.nginx, "-p", place, "-c", config, "-e", "stderr"]
    process = Process(NGINX, command, core, place)
    stack.callback(process.stop)
    process.wait_until_answering(f"http://127.0.0.1:{port}/")
    return System(NGINX, port, process)


NGINX_CONFIG = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr error;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive {kept};
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 600s;
        }}
    }}
}}
"""

# Never reached: what is measured is that it is kept, every hold of it written down before it is sent.
ONE_LIMIT = """
[[provider.limit]]
scope = "account"
unit = "requests"
max = 1000000000
window = "60s"
"""
