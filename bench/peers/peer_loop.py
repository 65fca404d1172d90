"""A peer's side of the protocol of bench/peers/protocol.ts: lines of JSON in, marked lines out."""

import json
import sys


def say(message: dict) -> None:
    sys.stdout.write(f"@{json.dumps(message)}\n")
    sys.stdout.flush()


def serve(engine: object, info: dict) -> None:
    """Says that the engine is ready, then answers each request by its method of that name."""
    say({"kind": "ready", "info": info})
    for line in sys.stdin:
        request = json.loads(line)
        value = getattr(engine, request["op"])(**request["args"])
        say({"kind": "answer", "id": request["id"], "value": value})
