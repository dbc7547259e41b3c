"""The programs: built from this checkout, or found on the machine."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.failure import UNAVAILABLE, Failure

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"


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
    need("cargo", "cargo")
    gateway = cargo_build(ROOT, ["--bin", "freellmapi"])
    bench = cargo_build(BENCH, [])
    return Programs(
        gateway=gateway / "freellmapi",
        forwarder=bench / "forwarder",
        mock=bench / "mock",
        load=bench / "load",
        nginx=need("nginx", "nginx") if with_nginx else None,
    )


def cargo_build(package: Path, options: list[str]) -> Path:
    """Builds a package for release; returns the folder of its programs."""
    if subprocess.run(["cargo", "build", "--release", "--locked", *options], cwd=package, check=False).returncode:
        raise Failure(f"{package} does not build")
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    metadata = subprocess.run(command, cwd=package, check=True, capture_output=True)
    return Path(json.loads(metadata.stdout)["target_directory"]) / "release"


def need(program: str, package: str) -> Path:
    """A program of the machine; as root on Debian it is installed when it is missing."""
    script = 'source scripts/packages.sh; PATH=$PATH:/usr/sbin; need "$1" "$2" >&2; command -v "$1"'
    command = ["bash", "-euc", script, "bench/run", program, package]
    found = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise Failure(f"{program} cannot be had", UNAVAILABLE)
    return Path(found.stdout.strip())
