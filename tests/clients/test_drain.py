"""SIGTERM while a real stream is in flight."""

import requests

from events import DONE, payloads, text
from gateway import Gateway
from waiting import until

STREAM = {
    "messages": [{"role": "user", "content": "Count to one hundred."}],
    "max_tokens": 200,
    "ignore_eos": True,
}
GRACE_SECONDS = 2
# The grace begins when the signal is handled, which a busy machine delays.
NOTICE_SECONDS = 10


def finish(gateway, stream) -> None:
    """Read the stream to its end, and see the gateway end well after it."""
    *chunks, last = list(stream)
    assert last == DONE
    assert "".join(map(text, chunks)).strip()
    assert gateway.wait() == 0, gateway.printed()


def test_a_stream_in_flight_finishes(own_gateway, model):
    with own_gateway.post("/api/chat.php", STREAM, stream=True) as answer:
        stream = payloads(answer)
        next(stream)
        own_gateway.terminate()
        assert model.is_busy()
        finish(own_gateway, stream)


def test_readyz_says_so_before_the_door_closes(model, tmp_path):
    config = f'[server]\nshutdown_grace = "{GRACE_SECONDS}s"\n{model.provider()}'
    with Gateway.serve(tmp_path, config) as gateway:
        with gateway.post("/api/chat.php", STREAM, stream=True) as answer:
            stream = payloads(answer)
            next(stream)
            gateway.terminate()
            until(
                lambda: requests.get(gateway.url + "/readyz", timeout=5).status_code == 503,
                NOTICE_SECONDS,
                "503 from /readyz while shutdown_grace lasts",
            )
            finish(gateway, stream)
