"""OpenAI's own SDK for Python against `/v1`, with nothing changed but its base URL."""

import openai
import pytest

from gateway import KEY, REQUEST_SECONDS
from model import MODEL

HELLO = [{"role": "user", "content": "Say hello."}]
NAMES = ["auto", MODEL, f"local-smollm/{MODEL}"]


def sdk(gateway, key: str = KEY) -> openai.OpenAI:
    # Without retries: a first answer that is wrong must be seen.
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=REQUEST_SECONDS
    )


@pytest.fixture
def client(gateway):
    with sdk(gateway) as opened:
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_an_answer(client, name):
    answer = client.chat.completions.create(model=name, messages=HELLO, max_tokens=12)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("name", NAMES)
def test_a_stream(client, name):
    with client.chat.completions.create(model=name, messages=HELLO, max_tokens=12, stream=True) as stream:
        # Every chunk has a choice where usage was not asked for: the loop of all tutorials relies on it.
        choices = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.delta.content or "" for choice in choices)
    assert choices[-1].finish_reason in {"stop", "length"}


def test_usage_at_the_end_of_a_stream(client):
    stream = client.chat.completions.create(
        model="auto", messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    with stream:
        *content, last = list(stream)
    assert all(chunk.usage is None for chunk in content)
    assert last.choices == []
    assert last.usage.prompt_tokens > 0
    assert 0 < last.usage.completion_tokens <= 12


def test_headers_tell_the_route(client):
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=HELLO, max_tokens=4, extra_headers={"x-request-id": "client-test-1"}
    )
    assert raw.headers["x-routed-via"] == f"local-smollm/{MODEL}"
    assert raw.headers["x-fallback-attempts"] == "0"
    assert int(raw.headers["x-queue-wait-ms"]) >= 0
    assert raw.headers["x-request-id"] == "client-test-1"


def test_list_and_retrieve_models(client):
    listed = [model.id for model in client.models.list()]
    assert any(MODEL in name for name in listed)
    for name in {*listed, MODEL}:
        assert client.models.retrieve(name).object == "model"


def test_a_wrong_key(gateway):
    with sdk(gateway, "freellmapi-" + "0" * 48) as stranger, pytest.raises(openai.AuthenticationError) as told:
        stranger.chat.completions.create(model="auto", messages=HELLO)
    assert told.value.code == "invalid_api_key"
    assert told.value.request_id


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as told:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert told.value.code == "model_not_found"
    assert told.value.request_id


def test_an_unknown_model_is_not_retrieved(client):
    with pytest.raises(openai.NotFoundError) as told:
        client.models.retrieve("no-such-model")
    assert told.value.request_id


@pytest.mark.parametrize("wrong", [{"temperature": 3}, {"messages": []}], ids=["temperature", "messages"])
def test_invalid_parameters(client, wrong):
    with pytest.raises(openai.BadRequestError) as told:
        client.chat.completions.create(**({"model": "auto", "messages": HELLO} | wrong))
    assert set(told.value.body) == {"message", "type", "param", "code"}
    assert told.value.request_id
