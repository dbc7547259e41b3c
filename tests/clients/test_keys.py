"""Keys that an operator makes and revokes beside the running gateway."""

import subprocess

import requests

from gateway import Gateway, binary, free_port
from waiting import until

# The contract for an embedded store is one second; the rest is for a busy machine.
NOTICE_SECONDS = 5


def command(folder, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [binary(), "--config", "freellmapi.toml", *arguments],
        cwd=folder, env={}, capture_output=True, text=True, timeout=30, check=True,
    )


def test_a_key_is_known_when_it_is_made_and_refused_when_it_is_revoked(tmp_path):
    config = f"""
[[provider]]
id = "nobody"
base_url = "http://127.0.0.1:{free_port()}/v1"
auth = "none"
model = [{{ id = "nothing" }}]
"""
    with Gateway.serve(tmp_path, config) as gateway:
        made = command(tmp_path, "key", "create", "--tenant", "default", "--label", "laptop")
        key, number = made.stdout.strip(), made.stderr.split()[1].rstrip(";")
        headers = {"Authorization": f"Bearer {key}"}

        def status() -> int:
            return requests.get(gateway.url + "/v1/models", headers=headers, timeout=5).status_code

        until(lambda: status() == 200, NOTICE_SECONDS, "200 with the new key")
        command(tmp_path, "key", "revoke", number)
        until(lambda: status() == 401, NOTICE_SECONDS, "401 with the revoked key")
        chat = requests.post(gateway.url + "/api/chat.php", headers=headers, json={"messages": []}, timeout=5)
        assert chat.status_code == 401
        assert chat.json() == {"error": chat.json()["error"], "code": 401}
        assert key not in gateway.printed()
