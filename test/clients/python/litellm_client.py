"""LiteLLM's SDK: OpenAI's chat and responses, Anthropic's messages, tools, structured output."""

import json
from typing import Literal

import litellm
from check import ANSWER, MESSAGES, MODEL, QUESTION, URL, WEATHER, check, equal, is_weather
from pydantic import BaseModel

litellm.suppress_debug_info = True
settings = {
    "model": f"openai/{MODEL}",
    "api_base": f"{URL}/v1",
    "api_key": "unused",
    "temperature": 0,
    "max_tokens": 400,
    "num_retries": 0,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class Weather(BaseModel):
    sunny: bool
    unit: Literal["C", "F"]


def text_of(answer):
    return answer.choices[0].message.content


def streamed():
    chunks = litellm.completion(**settings, messages=MESSAGES, stream=True)
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks), ANSWER)


def required_tool():
    answer = litellm.completion(**settings, messages=MESSAGES, tools=[TOOL], tool_choice="required")
    is_weather(json.loads(answer.choices[0].message.tool_calls[0].function.arguments))


def structured():
    answer = litellm.completion(**settings, messages=MESSAGES, response_format=Weather)
    is_weather(json.loads(text_of(answer)))


def responses():
    made = litellm.responses(
        model=f"openai/{MODEL}",
        input=QUESTION,
        api_base=f"{URL}/v1",
        api_key="unused",
        temperature=0,
    )
    texts = [part.text for item in made.output if item.type == "message" for part in item.content]
    equal("".join(texts), ANSWER)


def anthropic():
    given = {**settings, "model": f"anthropic/{MODEL}", "api_base": URL}
    equal(text_of(litellm.completion(**given, messages=MESSAGES)), ANSWER)


check("chat", lambda: equal(text_of(litellm.completion(**settings, messages=MESSAGES)), ANSWER))
check("chat, streamed", streamed)
check("tool required", required_tool)
check("structured: pydantic", structured)
check("responses", responses)
check("messages", anthropic)
