"""Open WebUI: its back end with default settings, driven by HTTP and its socket as by its page."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import socketio
from check import ANSWER, MODEL, QUESTION, URL, check, equal

# Migrations and imports take most of it.
START_SECONDS = 420
ANSWER_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def back_end():
    """Its address. Only where the model is, and that no hub can be reached, is said to it."""
    port = free_port()
    data = Path("open-webui").absolute()
    data.mkdir()
    told = {
        "DATA_DIR": str(data),
        "OPENAI_API_BASE_URL": f"{URL}/v1",
        "OPENAI_API_KEY": "unused",
        "HF_HUB_OFFLINE": "1",
    }
    command = [Path(sys.executable).with_name("open-webui"), "serve"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with open(data / "out.log", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **told}, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(address, process, data / "out.log")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_up(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-300:]
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health").status_code == 200:
                return
        time.sleep(1)
    raise TimeoutError(f"not up after {START_SECONDS} s")


def sign_up(address: str) -> httpx.Client:
    person = {"name": "First", "email": "first@example.com", "password": "unused-Password-1"}
    person["profile_image_url"] = "/user.png"
    made = httpx.post(f"{address}/api/v1/auths/signup", json=person, timeout=60)
    made.raise_for_status()
    headers = {"authorization": f"Bearer {made.json()['token']}"}
    return httpx.Client(base_url=address, headers=headers, timeout=60)


def body_of(model: dict, session: str, question: dict, answer_id: str) -> dict:
    """What the page of this version posts for the first message of a chat."""
    return {
        "stream": True,
        "model": model["id"],
        "params": {"model_controls": {}},
        "tool_servers": [],
        "features": {
            "voice": False,
            "image_generation": False,
            "code_interpreter": False,
            "web_search": False,
        },
        "variables": {"{{USER_NAME}}": "First", "{{USER_LANGUAGE}}": "en-US"},
        "model_item": model,
        "session_id": session,
        "id": answer_id,
        "parent_id": None,
        "user_message": question,
        "background_tasks": {
            "title_generation": True,
            "tags_generation": True,
            "follow_up_generation": True,
        },
    }


async def chat(client: httpx.Client, model: dict) -> tuple[dict, list[str]]:
    """The answer's message as it is kept, and what the socket said in between."""
    io = socketio.AsyncClient()
    events: list[str] = []
    is_done = asyncio.Event()

    @io.on("events")
    def hear(event: dict) -> None:
        told = event["data"]
        events.append(told["type"])
        if told["type"] == "chat:completion" and told["data"].get("done"):
            is_done.set()

    token = client.headers["authorization"].removeprefix("Bearer ")
    await io.connect(
        str(client.base_url),
        socketio_path="/ws/socket.io",
        transports=["websocket"],
        auth={"token": token},
    )
    await io.emit("user-join", {"auth": {"token": token}})
    question = {"id": str(uuid.uuid4()), "parentId": None, "childrenIds": [], "role": "user"}
    question |= {"content": QUESTION, "timestamp": int(time.time()), "models": [model["id"]]}
    answer_id = str(uuid.uuid4())
    body = body_of(model, io.get_sid(), question, answer_id)
    try:
        # The socket goes on beside it.
        sent = await asyncio.to_thread(client.post, "/api/chat/completions", json=body)
        assert sent.status_code == 200, sent.text[:300]
        await asyncio.wait_for(is_done.wait(), ANSWER_SECONDS)
    finally:
        await io.disconnect()
    kept = client.get(f"/api/v1/chats/{sent.json()['chat_id']}").json()
    return kept["chat"]["history"]["messages"][answer_id], events


with back_end() as address:
    client = sign_up(address)
    models = client.get("/api/models").json()["data"]

    def listed():
        assert MODEL in [model["id"] for model in models], models

    def answered():
        model = next(model for model in models if model["id"] == MODEL)
        message, events = asyncio.run(chat(client, model))
        assert "error" not in message, message["error"]
        equal(message["content"], ANSWER)
        kinds = [item["type"] for item in message["output"]]
        equal(kinds, ["reasoning", "message"])
        # Piece by piece, not at its end alone.
        assert events.count("response:completion") > 3, events

    check("models", listed)
    check("chat, streamed, its tools offered", answered)
