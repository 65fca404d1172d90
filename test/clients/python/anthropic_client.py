"""anthropic for Python: messages whole and streamed, thoughts, a tool that must be used."""

from anthropic import Anthropic
from check import ANSWER, MESSAGES, MODEL, URL, WEATHER, check, equal, is_weather

client = Anthropic(base_url=URL, api_key="unused", max_retries=0, timeout=60)
# This package has no field for the temperature.
settings = {
    "model": MODEL,
    "messages": MESSAGES,
    "max_tokens": 400,
    "extra_body": {"temperature": 0},
}


def messages():
    equal(client.messages.create(**settings).content[0].text, ANSWER)


def streamed():
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**settings, thinking=thinking) as stream:
        message = stream.get_final_message()
    equal([message.content[0].type, message.content[1].text], ["thinking", ANSWER])


def required_tool():
    tools = [{"name": "weather", "input_schema": WEATHER}]
    message = client.messages.create(**settings, tools=tools, tool_choice={"type": "any"})
    is_weather(next(block.input for block in message.content if block.type == "tool_use"))


def counted():
    assert client.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens > 5


check("messages", messages)
check("messages, streamed", streamed)
check("tool required", required_tool)
check("tokens counted", counted)
