"""What Prometheus's own parser makes of /metrics."""

import requests
from prometheus_client.parser import text_string_to_metric_families

from gateway import Gateway, free_port


def test_prometheus_reads_the_metrics(tmp_path):
    config = f"""
[access]
public_metrics = true
[[provider]]
id = "nobody"
base_url = "http://127.0.0.1:{free_port()}/v1"
auth = "none"
model = [{{ id = "nothing", rpm = 5 }}]
"""
    with Gateway.serve(tmp_path, config) as gateway:
        chat = {"messages": [{"role": "user", "content": "Hello!"}], "stream": False}
        assert gateway.post("/api/chat.php", chat).status_code == 503
        answer = requests.get(gateway.url + "/metrics", timeout=5)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}

    assert all(family.documentation and family.samples for family in families.values())
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}
    failed = {"provider": "nobody", "outcome": "connect"}
    attempts = [
        sample.value for sample in families["freellmapi_attempts"].samples if sample.labels == failed
    ]
    assert attempts and attempts[0] >= 1
    durations = families["freellmapi_request_duration_seconds"].samples
    original = {sample.name: sample.value for sample in durations if sample.labels == {"surface": "original"}}
    assert original["freellmapi_request_duration_seconds_count"] == 1
    left = families["freellmapi_limit_remaining_ratio"].samples
    assert left and all(0 <= sample.value <= 1 for sample in left)
