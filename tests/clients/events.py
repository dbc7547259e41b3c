"""Reading a streamed answer the way the documentation's samples do: line by line."""

import json
from collections.abc import Iterator

import requests

DONE = "[DONE]"


def payloads(response: requests.Response) -> Iterator[str]:
    """What follows `data: ` in each event, `[DONE]` included; comments are passed over."""
    for line in response.iter_lines():
        if line.startswith(b"data: "):
            yield line[6:].decode()


def text(payload: str) -> str:
    """The piece of text in one chunk; empty where it carries none."""
    choices = json.loads(payload).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


def usage(payload: str) -> int:
    """The total tokens that one chunk reports; 0 where it reports none."""
    return (json.loads(payload).get("usage") or {}).get("total_tokens", 0)
