"""LiteLLM's proxy before the server: chat, streams, tools, responses and messages through it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from check import ANSWER, MESSAGES, MODEL, QUESTION, URL, WEATHER, check, equal, is_weather
from openai import OpenAI

# Imports take most of it.
START_SECONDS = 420
# Of the proxy's users; it wants one.
KEY = "sk-unused"
settings = {"model": "served", "messages": MESSAGES, "temperature": 0, "max_tokens": 400}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


@contextlib.contextmanager
def proxy():
    """Its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": "unused"}
    # JSON is YAML.
    config = {
        "model_list": [{"model_name": "served", "litellm_params": given}],
        "general_settings": {"master_key": KEY},
    }
    Path("config.yaml").write_text(json.dumps(config))
    command = [Path(sys.executable).with_name("litellm"), "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    with open("proxy.log", "wb") as log:
        process = subprocess.Popen(command, env=os.environ, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, Path("proxy.log").read_text()[-300:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/health/liveliness").status_code == 200:
                    break
            assert time.monotonic() < end, f"not up after {START_SECONDS} s"
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


with proxy() as address:
    client = OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60)

    def chat():
        equal(client.chat.completions.create(**settings).choices[0].message.content, ANSWER)

    def streamed():
        chunks = client.chat.completions.create(**settings, stream=True)
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        equal("".join(texts), ANSWER)

    def required_tool():
        completion = client.chat.completions.create(
            **settings, tools=[TOOL], tool_choice="required"
        )
        is_weather(json.loads(completion.choices[0].message.tool_calls[0].function.arguments))

    def response():
        made = client.responses.create(
            model="served", input=QUESTION, temperature=0, max_output_tokens=400
        )
        equal(made.output_text, ANSWER)

    def message():
        body = {"model": "served", "max_tokens": 400, "messages": MESSAGES, "temperature": 0}
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        made = httpx.post(f"{address}/v1/messages", json=body, headers=headers, timeout=60).json()
        texts = [block["text"] for block in made["content"] if block["type"] == "text"]
        equal("".join(texts), ANSWER)

    check("chat", chat)
    check("chat, streamed", streamed)
    check("tool required", required_tool)
    check("responses", response)
    check("messages", message)
