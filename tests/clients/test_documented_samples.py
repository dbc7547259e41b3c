"""The documentation's samples, run as they are printed, but for host and key, against `freellmapi demo`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from gateway import REQUEST_SECONDS

SAMPLES = Path(__file__).with_name("documented_samples")
RUN_SECONDS = 120


def rendered(name: str, demo) -> str:
    """The text of a sample with the demo's address and key in the places of its placeholders."""
    text = (SAMPLES / name).read_text()
    assert "freellmapi-YOUR-KEY" in text
    return (
        text.replace("http://localhost:3001", demo.url)
        .replace("'/api/chat.php'", f"'{demo.url}/api/chat.php'")
        .replace("freellmapi-YOUR-KEY", demo.key)
    )


def run(command: list[str]) -> str:
    """What the command printed; it must succeed and complain about nothing."""
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_javascript(demo, tmp_path):
    script = tmp_path / "chat.mjs"
    # The documentation defines the function and leaves the call to its reader.
    script.write_text(rendered("chat.js", demo) + "\nawait chat('Hello!');\n")
    assert run(["node", str(script)]).strip()


def test_python(demo, tmp_path):
    script = tmp_path / "chat.py"
    script.write_text(rendered("chat.py", demo))
    printed = run([sys.executable, str(script)])
    assert printed.strip()
    # A null delta would be printed as this word: the sample knows text or nothing.
    assert "None" not in printed


def test_curl(demo):
    answer = json.loads(run(["sh", "-c", rendered("chat.sh", demo)]))
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["total_tokens"] > 0
    assert set(answer["_routed_via"]) == {"platform", "model", "display_name"}


def test_the_line_that_demo_prints(demo):
    line = demo.printed_line(r"^curl .*$")
    events = [event for event in run(["sh", "-c", line]).splitlines() if event.startswith("data: ")]
    assert len(events) > 2
    assert events[-1] == "data: [DONE]"
    assert "".join(json.loads(event[6:])["choices"][0]["delta"].get("content") or "" for event in events[:-1])


def test_demo_has_six_providers(demo):
    models = demo.get("/api/models.php").json()
    assert len({model["platform"] for model in models if model["enabled"]}) == 6
    assert [model["intelligence_rank"] for model in models] == sorted(m["intelligence_rank"] for m in models)


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/chat.php"), ("GET", "/api/stats.php")])
def test_a_wrong_key_is_told_in_the_documented_form(demo, method, path):
    stranger = {"Authorization": "Bearer freellmapi-" + "0" * 48}
    answer = requests.request(method, demo.url + path, headers=stranger, timeout=REQUEST_SECONDS)
    assert answer.status_code == 401
    assert answer.json()["code"] == 401
    assert answer.json()["error"]


def test_every_answer_says_that_it_is_simulated(demo):
    headers = {"Authorization": f"Bearer {demo.key}"}
    answers = [
        requests.get(demo.url + "/api/models.php", timeout=REQUEST_SECONDS),
        requests.get(demo.url + "/nowhere", timeout=REQUEST_SECONDS),
        requests.post(demo.url + "/api/chat.php", headers=headers, json={}, timeout=REQUEST_SECONDS),
        demo.post("/api/chat.php", {"messages": [{"role": "user", "content": "Hello!"}], "stream": False}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 400, 200]
    assert all(answer.headers["x-freellmapi-demo"] == "simulated" for answer in answers)
