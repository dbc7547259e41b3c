"""The model server as seen from the tests: a child process and its own meters."""

import subprocess
import sys
from pathlib import Path

import requests

from model_server import MODEL
from waiting import until

__all__ = ["MODEL", "Model"]

IDLE_SECONDS = 60


class Model:
    """One running llama.cpp server; a context manager."""

    def __init__(self, log: Path):
        self._errors = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("model_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self._process.wait()
            raise AssertionError(f"the model server did not start:\n{log.read_text(errors='replace')}")

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.communicate()
        self._errors.close()

    def provider(self) -> str:
        """The five lines by which a gateway gets this model."""
        return f"""
[[provider]]
id = "local-smollm"
base_url = "{self.url}/v1"
auth = "none"
model = [{{ id = "{MODEL}" }}]
"""

    def is_busy(self) -> bool:
        """Whether its one slot is working on a request."""
        return any(slot["is_processing"] for slot in requests.get(f"{self.url}/slots", timeout=30).json())

    def wait_until_idle(self) -> None:
        """Return once the slot is free, so that the meters stand still."""
        until(lambda: not self.is_busy(), IDLE_SECONDS, "free slot of the model server")

    def predicted(self) -> int:
        """Output tokens since its start, of finished and of aborted requests."""
        return self._meter("tokens_predicted_total")

    def total(self) -> int:
        """All tokens since its start: read, read from the cache, and written."""
        cached = self._meter("prompt_tokens_cached_total")
        return self._meter("prompt_tokens_total") + cached + self.predicted()

    def _meter(self, name: str) -> int:
        lines = requests.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return int(float(next(line.split()[1] for line in lines if line.startswith(f"llamacpp:{name} "))))
