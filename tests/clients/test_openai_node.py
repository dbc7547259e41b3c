"""Runs openai_node.mjs under Node's own test runner."""

import os
import subprocess
from pathlib import Path

from model import MODEL

RUN_SECONDS = 300


def test_openai_for_node(gateway):
    ended = subprocess.run(
        ["node", "--test", "openai_node.mjs"],
        cwd=Path(__file__).parent,
        env=os.environ | {"BASE_URL": f"{gateway.url}/v1", "API_KEY": gateway.key, "MODEL": MODEL},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
