"""langchain-openai: chat and responses, tools, with_structured_output in each of its ways."""

from typing import Literal

from check import ANSWER, MODEL, QUESTION, URL, check, equal, is_weather
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """Tells the weather."""

    sunny: bool
    unit: Literal["C", "F"]


@tool
def weather(sunny: bool, unit: Literal["C", "F"]) -> str:
    """Tells the weather."""
    return "fine"


def model(**more):
    return ChatOpenAI(
        model=MODEL,
        base_url=f"{URL}/v1",
        api_key="unused",
        temperature=0,
        max_tokens=400,
        max_retries=0,
        timeout=60,
        **more,
    )


def streamed():
    texts = [chunk.text for chunk in model().stream(QUESTION)]
    equal("".join(str(text) for text in texts), ANSWER)


def structured(method: str):
    found = model().with_structured_output(Weather, method=method).invoke(QUESTION)
    assert isinstance(found, Weather), found


def required_tool():
    answer = model().bind_tools([weather], tool_choice="required").invoke(QUESTION)
    is_weather(answer.tool_calls[0]["args"])


def responses():
    answer = model(use_responses_api=True).invoke(QUESTION)
    equal(str(answer.text), ANSWER)


check("chat", lambda: equal(str(model().invoke(QUESTION).text), ANSWER))
check("chat, streamed", streamed)
check("tool required", required_tool)
check("structured: json_schema", lambda: structured("json_schema"))
check("structured: function_calling", lambda: structured("function_calling"))
check("responses", responses)
