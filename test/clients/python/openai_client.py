"""openai for Python: chat, parse(), responses, tools; whole and streamed."""

import json
from typing import Literal

from check import ANSWER, MESSAGES, MODEL, QUESTION, URL, WEATHER, check, equal, is_weather
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0, timeout=60)
settings = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 400}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class Weather(BaseModel):
    sunny: bool
    unit: Literal["C", "F"]


def chat():
    equal(client.chat.completions.create(**settings).choices[0].message.content, ANSWER)


def streamed_chat():
    chunks = client.chat.completions.create(**settings, stream=True)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    equal("".join(texts), ANSWER)


def parse():
    completion = client.chat.completions.parse(**settings, response_format=Weather)
    assert isinstance(completion.choices[0].message.parsed, Weather)


def required_tool():
    completion = client.chat.completions.create(
        **settings, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    [call] = completion.choices[0].message.tool_calls
    is_weather(json.loads(call.function.arguments))


def auto_tools():
    completion = client.chat.completions.create(**settings, tools=[TOOL])
    equal(completion.choices[0].message.content, ANSWER)


def response():
    made = client.responses.create(
        model=MODEL, input=QUESTION, temperature=0, max_output_tokens=400
    )
    equal(made.output_text, ANSWER)


def streamed_response():
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_response().output_text, ANSWER)


def parsed_response():
    made = client.responses.parse(
        model=MODEL, input=QUESTION, temperature=0, text_format=Weather, max_output_tokens=400
    )
    assert isinstance(made.output_parsed, Weather)


def models():
    assert MODEL in [model.id for model in client.models.list()]


check("chat", chat)
check("chat, streamed", streamed_chat)
check("tools offered", auto_tools)
check("tool required", required_tool)
check("structured: parse()", parse)
check("responses", response)
check("responses, streamed", streamed_response)
check("responses: parse()", parsed_response)
check("models", models)
