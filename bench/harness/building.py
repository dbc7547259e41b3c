"""The programs: built from this checkout, or found on the machine."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.failure import UNAVAILABLE, Failure

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
# Servers lie where not every user looks.
SEARCH_PATH = os.environ["PATH"] + ":/usr/sbin"


@dataclass(frozen=True)
class Programs:
    """Paths of what is run; nginx is None when it is left out."""

    gateway: Path
    forwarder: Path
    mock: Path
    load: Path
    nginx: Path | None


def build(with_nginx: bool) -> Programs:
    """Builds everything as it is released, and finds nginx."""
    packages("need_rust")
    packages("need", "taskset", "util-linux")
    gateway = cargo_build(ROOT, ["--bin", "freellmapi"])
    bench = cargo_build(BENCH, [])
    return Programs(
        gateway=gateway / "freellmapi",
        forwarder=bench / "forwarder",
        mock=bench / "mock",
        load=bench / "load",
        nginx=need("nginx", "nginx") if with_nginx else None,
    )


def example(name: str) -> Path:
    """Builds an example of the gateway's package, as the gateway is released; returns its program."""
    packages("need_rust")
    return cargo_build(ROOT, ["--example", name]) / "examples" / name


def cargo_build(package: Path, options: list[str]) -> Path:
    """Builds a package for release; returns the folder of its programs."""
    if subprocess.run(["cargo", "build", "--release", "--locked", *options], cwd=package, check=False).returncode:
        raise Failure(f"{package} does not build")
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    metadata = subprocess.run(command, cwd=package, check=True, capture_output=True)
    return Path(json.loads(metadata.stdout)["target_directory"]) / "release"


def need(program: str, package: str) -> Path:
    """A program of the machine; as root on Debian it is installed when it is missing."""
    packages("need", program, package)
    return Path(shutil.which(program, path=SEARCH_PATH))


def packages(*words: str) -> None:
    """Calls a function of scripts/packages.sh, which says itself what is missing."""
    command = ["bash", "-euc", 'source scripts/packages.sh; "$@" >&2', "bench/run", *words]
    if subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": SEARCH_PATH}, check=False).returncode:
        raise Failure("something that is needed is missing", UNAVAILABLE)
