"""A real model behind the gateway: what it says, what it counts, and what it costs to leave."""

import openai
import pytest

from events import DONE, payloads, text, usage
from gateway import KEY, Gateway, free_port
from model import MODEL
from waiting import until

QUESTION = [{"role": "user", "content": "Tell me a story about a lighthouse."}]
# Statistics include whatever ended a second ago; the rest is for a busy machine.
STATS_SECONDS = 3
# `ignore_eos` makes llama.cpp write all of `max_tokens`, whatever the model would like to say.
LONG = {"messages": QUESTION, "max_tokens": 900, "ignore_eos": True, "stream": True}


def test_an_answer_on_the_original_api(gateway):
    answer = gateway.post("/api/chat.php", {"messages": QUESTION, "stream": False, "max_tokens": 16})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-routed-via"] == f"local-smollm/{MODEL}"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert body["choices"][0]["message"]["content"].strip()
    assert body["usage"]["completion_tokens"] <= 16
    assert body["_routed_via"]["platform"] == "local-smollm"
    assert body["_routed_via"]["model"] == MODEL
    assert body["_routed_via"]["display_name"]


def test_a_stream_is_the_default_on_the_original_api(gateway):
    with gateway.post("/api/chat.php", {"messages": QUESTION, "max_tokens": 16}, stream=True) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        *chunks, last = list(payloads(answer))
    assert last == DONE
    assert "".join(map(text, chunks)).strip()


def test_the_model_can_be_pinned_by_its_number(gateway):
    models = gateway.get("/api/models.php").json()
    number = next(model["id"] for model in models if model["model_id"] == MODEL)
    pinned = {"messages": QUESTION, "model_id": number, "stream": False, "max_tokens": 4}
    assert gateway.post("/api/chat.php", pinned).status_code == 200
    assert gateway.post("/api/chat.php", pinned | {"model_id": 999_999_999}).status_code == 400


def test_the_statistics_agree_with_the_models_own_meters(own_gateway, model):
    model.wait_until_idle()
    before = model.total()
    small = {"messages": QUESTION, "max_tokens": 16}
    with openai.OpenAI(base_url=f"{own_gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        reported = client.chat.completions.create(model=MODEL, **small).usage.total_tokens
        streamed = client.chat.completions.create(
            model="auto", stream=True, stream_options={"include_usage": True}, **small
        )
        with streamed:
            reported += list(streamed)[-1].usage.total_tokens
    reported += own_gateway.post("/api/chat.php", small | {"stream": False}).json()["usage"]["total_tokens"]
    asked = small | {"stream_options": {"include_usage": True}}
    with own_gateway.post("/api/chat.php", asked, stream=True) as answer:
        reported += sum(usage(payload) for payload in payloads(answer) if payload != DONE)
    assert reported == model.total() - before

    def all_four():
        stats = own_gateway.get("/api/stats.php").json()
        return stats if stats["requests_today"] == 4 else None

    stats = until(all_four, STATS_SECONDS, "statistics of all four requests")
    assert stats["tokens_used"] == reported
    assert stats["success_rate"] == 1
    assert stats["avg_latency"] > 0
    assert stats["active_providers"] == 1


def test_a_client_that_leaves_frees_the_model(own_gateway, model):
    model.wait_until_idle()
    before = model.predicted()
    with own_gateway.post("/api/chat.php", LONG, stream=True) as answer:
        stream = payloads(answer)
        assert "".join(text(next(stream)) for _ in range(4))
        # The pieces come while the model still writes: nothing was held back.
        assert model.is_busy()
    # The server has one slot: that this is answered at all means that the first request gave it up.
    small = {"messages": QUESTION, "max_tokens": 4, "stream": False}
    assert own_gateway.post("/api/chat.php", small).status_code == 200
    model.wait_until_idle()
    assert model.predicted() - before < LONG["max_tokens"] / 2


@pytest.mark.parametrize(
    ("surface", "choice"), [("/api/chat.php", {"model_id": None}), ("/v1/chat/completions", {"model": "auto"})]
)
def test_a_provider_that_is_not_there_is_503(tmp_path, surface, choice):
    config = f"""
[[provider]]
id = "gone"
base_url = "http://127.0.0.1:{free_port()}/v1"
auth = "none"
model = [{{ id = "nobody" }}]
"""
    with Gateway.serve(tmp_path, config) as gateway:
        answer = gateway.post(surface, {"messages": QUESTION, "stream": False} | choice)
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]
