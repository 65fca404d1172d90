"""What a client's program tells of its checks: one line of JSON each."""

import json
import os
from collections.abc import Callable

URL = os.environ["DUTYFREE_URL"]
MODEL = os.environ["DUTYFREE_MODEL"]
QUESTION = "A shop fills 2 bags, each with 62 books. How many books are there now?"
ANSWER = "The answer is 124."
MESSAGES = [{"role": "user", "content": QUESTION}]
WEATHER = {
    "type": "object",
    "properties": {"sunny": {"type": "boolean"}, "unit": {"enum": ["C", "F"]}},
    "required": ["sunny", "unit"],
    "additionalProperties": False,
}


def check(name: str, run: Callable[[], object]) -> None:
    """Runs one check; whatever it throws is why it failed."""
    try:
        run()
        print(json.dumps({"check": name, "ok": True}), flush=True)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        print(json.dumps({"check": name, "ok": False, "why": why}), flush=True)


def is_weather(value: object) -> None:
    """Raises AssertionError where it is not of the schema."""
    assert isinstance(value, dict), value
    assert isinstance(value["sunny"], bool) and value["unit"] in ("C", "F"), value


def equal(found: object, expected: object) -> None:
    assert found == expected, f"{found!r} is not {expected!r}"
