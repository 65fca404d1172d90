"""pydantic-ai: its OpenAI models by chat and by responses; text, and an output type by each way."""

from typing import Literal

from check import ANSWER, MODEL, QUESTION, URL, check, equal
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key="unused")
settings = {"temperature": 0.0, "max_tokens": 400, "timeout": 60}
MODELS = {
    "chat": OpenAIChatModel(MODEL, provider=provider),
    "responses": OpenAIResponsesModel(MODEL, provider=provider),
}


class Weather(BaseModel):
    """Tells the weather."""

    sunny: bool
    unit: Literal["C", "F"]


def ask(model, output):
    agent = Agent(model, output_type=output, model_settings=settings, retries=0)
    return agent.run_sync(QUESTION).output


for name, model in MODELS.items():
    check(f"{name}: text", lambda model=model: equal(ask(model, str), ANSWER))
    for way, output in (("tool", ToolOutput(Weather)), ("schema", NativeOutput(Weather))):
        check(
            f"{name}: output by {way}",
            lambda model=model, output=output: equal(type(ask(model, output)), Weather),
        )
