"""The real gateway as a child process: started in a folder of its own, stopped as an operator would."""

import os
import random
import re
import signal
import socket
import subprocess
from pathlib import Path

import requests

from waiting import until

KEY = "freellmapi-" + "c1" * 24
START_SECONDS = 30
# Longer than the default `drain_timeout` of 30 s, so that a late exit is told from none.
STOP_SECONDS = 60
REQUEST_SECONDS = 90


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on, below the range that outgoing connections take theirs from."""
    for _ in range(100):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port between 20000 and 32000")


def binary() -> str:
    """The program under test, named by FREELLMAPI_BIN."""
    path = os.environ.get("FREELLMAPI_BIN", "")
    if not os.access(path, os.X_OK):
        raise AssertionError("FREELLMAPI_BIN must name the freellmapi binary; run scripts/test clients")
    return path


class Gateway:
    """One running gateway; a context manager that expects a clean end."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.key = environment.get("FREELLMAPI_API_KEY", "")
        self._log = folder / "gateway.log"
        # Nothing is inherited: a provider's key in the developer's shell would add a real provider.
        clean = {"PATH": os.environ["PATH"], "HOME": str(folder), "FREELLMAPI_LISTEN": f"127.0.0.1:{port}"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [binary(), *arguments],
                cwd=folder,
                env=clean | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(self._is_ready, START_SECONDS, f"200 from {self.url}/readyz")
        except BaseException:
            self.kill()
            print(self.printed())
            raise

    @classmethod
    def serve(cls, folder: Path, config: str) -> "Gateway":
        """`freellmapi --config FILE` with a fresh SQLite store and the tests' key."""
        file = folder / "freellmapi.toml"
        file.write_text(config)
        return cls(folder, ["--config", str(file)], {"FREELLMAPI_API_KEY": KEY})

    @classmethod
    def demo(cls, folder: Path) -> "Gateway":
        """`freellmapi demo`; its key is the one that it printed."""
        gateway = cls(folder, ["demo"], {})
        try:
            gateway.key = gateway.printed_line(r"\bfreellmapi-[0-9a-f]{48}\b")
        except BaseException:
            gateway.kill()
            raise
        return gateway

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            self.kill()
            print(self.printed())
            return
        assert self.stop() == 0, f"SIGTERM did not end in exit code 0:\n{self.printed()}"

    def printed(self) -> str:
        """All it wrote to stdout and stderr so far."""
        return self._log.read_text(errors="replace")

    def printed_line(self, pattern: str) -> str:
        """The first match of `pattern` in what it prints, line by line."""
        found = until(
            lambda: re.search(pattern, self.printed(), re.MULTILINE), START_SECONDS, f"output like {pattern}"
        )
        return found.group(0)

    def terminate(self) -> None:
        """Ask it to drain (SIGTERM) and return at once."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {STOP_SECONDS} s after SIGTERM:\n{self.printed()}") from None

    def stop(self) -> int:
        """SIGTERM (unless it has ended) and its exit code."""
        if self._process.poll() is None:
            self.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it without ceremony, after a failure."""
        self._process.kill()
        self._process.wait()

    def post(self, path: str, body: dict, **options) -> requests.Response:
        """POST `body` as JSON with the tests' key."""
        return requests.post(
            self.url + path, json=body, headers=self._bearer(), timeout=REQUEST_SECONDS, **options
        )

    def get(self, path: str) -> requests.Response:
        """GET with the tests' key."""
        return requests.get(self.url + path, headers=self._bearer(), timeout=REQUEST_SECONDS)

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def _is_ready(self) -> bool:
        code = self._process.poll()
        if code is not None:
            raise AssertionError(f"the gateway ended with {code} before it was ready:\n{self.printed()}")
        try:
            return requests.get(self.url + "/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False
