"""llm: its command line, with a model of its extra-openai-models.yaml."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from check import ANSWER, MODEL, QUESTION, URL, WEATHER, check, equal, is_weather

home = Path(tempfile.mkdtemp())
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: served\n  model_name: {MODEL}\n  api_base: {URL}/v1\n"
    "  supports_schema: true\n  supports_tools: true\n"
)


def llm(*arguments: str) -> str:
    command = [sys.executable, "-m", "llm", "-m", "served", "--key", "unused", *arguments]
    env = {**os.environ, "LLM_USER_PATH": str(home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.strip()


def schema():
    given = ["--schema", json.dumps(WEATHER), "-o", "max_tokens", "400", "-o", "temperature", "0"]
    is_weather(json.loads(llm(*given, QUESTION)))


def continued():
    """A thought that max_tokens cuts leaves an empty answer in the history that it sends back."""
    llm("-o", "max_tokens", "10", "-o", "temperature", "0", QUESTION)
    equal(llm("-c", "-o", "max_tokens", "400", "-o", "temperature", "0", QUESTION), ANSWER)


check("chat, streamed", lambda: equal(llm("-o", "temperature", "0", QUESTION), ANSWER))
check("chat", lambda: equal(llm("--no-stream", "-o", "temperature", "0", QUESTION), ANSWER))
check("structured: --schema", schema)
check("-c, after a thought that was cut", continued)
