"""The official openai package against the real server, started as users start it.

Skipped where openai, node or the built server is missing; a failure under DUTYFREE_REQUIRE_ALL=1.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "dist" / "server" / "main.js"
MODEL = ROOT / "models" / "tiny-reasoner"
PATIENCE_SECONDS = 60
QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


def missing() -> str | None:
    if importlib.util.find_spec("openai") is None:
        return "the openai package is not installed"
    if shutil.which("node") is None:
        return "node is not on the path"
    return None if MAIN.exists() else "dist/server/main.js is missing: npm run build makes it"


@pytest.fixture(scope="module", autouse=True)
def all_there() -> None:
    reason = missing()
    if reason is not None and os.environ.get("DUTYFREE_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


def write_adapter(folder: Path) -> None:
    """A rank-1 up_proj adapter, as PEFT writes it, strong enough to change every answer."""
    config = json.loads((MODEL / "config.json").read_text())
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        key = f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_{{}}.weight"
        tensors[key.format("A")] = torch.randn(1, config["hidden_size"], generator=generator)
        tensors[key.format("B")] = torch.randn(config["intermediate_size"], 1, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 4, "target_modules": ["up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def wait_until_ready(process: subprocess.Popen) -> str:
    """Reads the log on a thread of its own until the line that says ready."""
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in process.stderr:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    seen = []
    while True:
        try:
            line = lines.get(timeout=PATIENCE_SECONDS)
        except Empty:
            pytest.fail(f"the server is not ready after {PATIENCE_SECONDS} s:\n{''.join(seen)}")
        if line == "":
            pytest.fail(f"the server ended:\n{''.join(seen)}")
        seen.append(line)
        if line.startswith("{") and json.loads(line).get("msg") == "ready":
            return json.loads(line)["url"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):
    import openai

    folder = tmp_path_factory.mktemp("server")
    write_adapter(folder / "adapters" / "loud")
    flags = ["--port", "0", "--adapters", str(folder / "adapters"), "--model", str(MODEL)]
    flags += ["--cache-dir", str(folder / "cache"), "--max-batch", "4", "--threads", "1"]
    process = subprocess.Popen(
        ["node", str(MAIN), *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        url = wait_until_ready(process)
        with openai.OpenAI(
            base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE_SECONDS
        ) as client:
            yield client
        process.terminate()
        assert process.wait(timeout=PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def chat(client, **fields):
    defaults = {"model": "tiny-reasoner", "messages": QUESTION, "temperature": 0}
    return client.chat.completions.create(**{**defaults, "max_tokens": 48, **fields})


def thought_and_answer(choice) -> tuple[str, str]:
    return choice.message.reasoning_content or "", choice.message.content or ""


def test_a_chat_has_a_thought_an_answer_and_usage(client):
    reply = chat(client, max_tokens=400)
    thought, answer = thought_and_answer(reply.choices[0])
    assert thought
    assert answer
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.completion_tokens_details.reasoning_tokens > 0


def test_a_stream_gives_the_same_text_and_the_usage(client):
    whole = chat(client)
    thought = answer = ""
    usage = None
    for chunk in chat(client, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thought += getattr(choice.delta, "reasoning_content", None) or ""
            answer += choice.delta.content or ""
    assert (thought, answer) == thought_and_answer(whole.choices[0])
    assert usage == whole.usage


def test_choices_log_probabilities_and_stops(client):
    reply = chat(client, n=2, logprobs=True, top_logprobs=3, max_tokens=4)
    assert [choice.index for choice in reply.choices] == [0, 1]
    for choice in reply.choices:
        assert len(choice.logprobs.content) == 4
        assert all(len(token.top_logprobs) == 3 for token in choice.logprobs.content)
    thought, answer = thought_and_answer(chat(client).choices[0])
    stop = answer[4:7]
    # What the thought says ends nothing: stop strings act on the answer.
    assert thought
    stopped = chat(client, stop=[thought[4:7], stop])
    expected = answer[: min(answer.find(s) for s in (thought[4:7], stop) if s in answer)]
    assert thought_and_answer(stopped.choices[0]) == (thought, expected)
    assert stopped.choices[0].finish_reason == "stop"


def test_a_seed_gives_the_same_text_again(client):
    first, second = (chat(client, temperature=2, top_p=1, seed=9) for _ in range(2))
    assert thought_and_answer(first.choices[0]) == thought_and_answer(second.choices[0])


def test_adapters_are_switched_per_request_and_attested(client):
    base = chat(client)
    loud = chat(client, extra_body={"adapter": "loud"})
    assert thought_and_answer(loud.choices[0]) != thought_and_answer(base.choices[0])
    assert [(one["id"], one["scale"]) for one in loud.adapter] == [("loud", 1)]
    off = chat(client, extra_query={"adapter": "loud:0"})
    assert thought_and_answer(off.choices[0]) == thought_and_answer(base.choices[0])
    assert {model.id for model in client.models.list()} == {"tiny-reasoner", "loud"}


def test_plain_completions(client):
    reply = client.completions.create(
        model="tiny-reasoner", prompt="What is", max_tokens=5, temperature=0
    )
    assert reply.choices[0].text


def test_errors_are_the_packages_own(client):
    import openai

    with pytest.raises(openai.NotFoundError) as unknown:
        chat(client, model="no-such")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as hot:
        chat(client, temperature=9)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        chat(client, messages=[{"role": "user", "content": "What is 12 + 30? " * 600}])
    assert long.value.code == "context_length_exceeded"
    assert chat(client, max_tokens=2).choices
