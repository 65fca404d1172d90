"""instructor: a pydantic model from an answer, by tools and by JSON schema."""

from typing import Literal

import instructor
from check import MESSAGES, MODEL, URL, check
from openai import OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """Tells the weather."""

    sunny: bool
    unit: Literal["C", "F"]


def make(mode: instructor.Mode):
    openai = OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0, timeout=60)
    client = instructor.from_openai(openai, mode=mode)
    found = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        response_model=Weather,
        temperature=0,
        max_tokens=400,
        max_retries=1,
    )
    assert isinstance(found, Weather)


check("structured: tools", lambda: make(instructor.Mode.TOOLS))
check("structured: json_schema", lambda: make(instructor.Mode.JSON_SCHEMA))
