"""inspect-ai: an evaluation by chat and by responses, and one with log-probabilities."""

from check import ANSWER, MODEL, QUESTION, URL, check
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import exact


def run(**more):
    model = get_model(f"openai/{MODEL}", base_url=f"{URL}/v1", api_key="unused", **more)
    samples = [Sample(input=QUESTION, target=ANSWER, id=i) for i in range(3)]
    task = Task(dataset=samples, scorer=exact())
    [log] = eval(
        task,
        model=model,
        temperature=0,
        max_tokens=400,
        display="none",
        log_dir="logs",
    )
    assert log.status == "success", log.error
    metrics = log.results.scores[0].metrics
    assert metrics["mean"].value == 1, metrics


check("chat", lambda: run(responses_api=False))
check("responses", lambda: run(responses_api=True))
check(
    "chat, with log-probabilities",
    lambda: run(responses_api=False, config=GenerateConfig(logprobs=True, top_logprobs=2)),
)
