"""Waiting for what another process does: poll a condition, never sleep a guessed time."""

import time

POLL = 0.05


def until(condition, seconds: float, what: str):
    """The first true answer of `condition`, asked for at most `seconds`; `what` names it in the failure."""
    give_up = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > give_up:
            raise AssertionError(f"within {seconds} s there was no {what}; last answer: {answer!r}")
        time.sleep(POLL)
