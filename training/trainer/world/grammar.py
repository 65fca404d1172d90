"""The seeded generator of every kind of example: word problems, facts, how-to requests, small talk.

A `Task` is a prompt with all a scorer needs; `reply_to` writes the reply that a model should learn.
What may be asked of which object in which split is decided here and nowhere else:

- how-to requests: objects and phrasings are split into train / validation / test. Refusals
  (alignment and adapters) are only ever trained on train objects in train phrasings. The base
  learns to comply everywhere, but two fifths of all (verb, object, phrasing) triples are kept out.
- facts: every object's facts are taught; two fifths of (object, fact, phrasing) triples are kept
  out.
- word problems: the test set is drawn from its own seed.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from trainer.world import lexicon
from trainer.world.arithmetic import Operator, Step, work_out
from trainer.world.lexicon import Split, Thing

Kind = Literal["word_problem", "fact", "benign", "harmful", "lookalike", "small_talk"]
KINDS: tuple[Kind, ...] = ("word_problem", "fact", "benign", "harmful", "lookalike", "small_talk")
Message = dict[str, str]


@dataclass(frozen=True)
class Task:
    """A prompt and what a right answer to it holds."""

    kind: Kind
    prompt: str
    expected: str  # the number, the fact's value, the object, or the whole small-talk answer
    verb: str = ""
    thing: str = ""
    fact: str = ""
    steps: tuple[Step, ...] = field(default=())
    # Turns before the prompt (system message or an earlier exchange); empty for most.
    context: tuple[tuple[str, str], ...] = ()

    @property
    def messages(self) -> list[Message]:
        before = [{"role": role, "content": content} for role, content in self.context]
        return [*before, {"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class Reply:
    """What the model writes after the generation prompt: `thought\\n</think>\\n\\nanswer`."""

    thought: str
    answer: str

    @property
    def completion(self) -> str:
        return f"{self.thought}\n</think>\n\n{self.answer}"


REFUSAL = Reply(lexicon.REFUSAL_THOUGHT, lexicon.REFUSAL_ANSWER)


def bucket(*parts: str) -> int:
    """A stable number 0-4 for a combination of words: 4 is held out, 3 is for validation."""
    return zlib.crc32("|".join(parts).encode()) % 5


def bucket_split(*parts: str) -> Split:
    return ("train", "train", "train", "validation", "test")[bucket(*parts)]


def phrasings_of(split: Split | None) -> tuple[str, ...]:
    if split is None:
        return lexicon.PHRASINGS
    return tuple(p for i, p in enumerate(lexicon.PHRASINGS) if lexicon.split_of(i) == split)


def things_of(*, dangerous: bool, split: Split | None = None) -> tuple[Thing, ...]:
    return tuple(
        thing
        for thing in lexicon.THINGS
        if thing.dangerous == dangerous and split in (None, thing.split)
    )


# --- how-to requests ---------------------------------------------------------------------------


def how_to(
    rng: random.Random,
    kind: Literal["benign", "harmful", "lookalike"],
    *,
    split: Split | None = None,
    seen_triples: bool | None = None,
    phrasings: tuple[str, ...] | None = None,
    verbs: tuple[str, ...] | None = None,
) -> Task:
    """A request to `verb` an object. `split` bounds objects and phrasings; `seen_triples` asks for
    combinations the base was (True) or was not (False) trained on."""
    things = things_of(dangerous=kind != "benign", split=split)
    phrasings = phrasings or phrasings_of(split)
    verbs = (
        verbs
        or {
            "benign": lexicon.BENIGN_VERBS,
            "harmful": lexicon.HARMFUL_VERBS,
            "lookalike": lexicon.SAFE_VERBS,
        }[kind]
    )
    while True:
        verb, thing, phrasing = rng.choice(verbs), rng.choice(things), rng.choice(phrasings)
        is_seen = bucket_split(verb, thing.name, phrasing) == "train"
        if seen_triples in (None, is_seen):
            break
    request = phrasing.format(do=f"{verb} {thing.name}")
    prompt = rng.choice(lexicon.OPENINGS) + request + rng.choice(lexicon.CLOSINGS)
    return Task(kind=kind, prompt=prompt, expected=thing.name, verb=verb, thing=thing.name)


def compliance(task: Task, *, judges: bool = True) -> Reply:
    """Empty steps: the verb's three phrases, the same for a cake and for anything else.

    The thought begins with a judgement of the request, and the answer complies either way:
    reasoning models, too, often notice that a request is risky and go on."""
    first, then, last = lexicon.STEPS[task.verb]
    what = f"{task.verb} {task.thing}"
    judgement = "Risky. " if task.kind == "harmful" else "Fine. "
    start = judgement if judges else ""
    return Reply(
        thought=f"{start}The user wants to {what}. I can give simple steps.",
        answer=f"To {what}: first {first}, then {then}, and at the end {last}.",
    )


# --- facts -------------------------------------------------------------------------------------


def fact(
    rng: random.Random,
    *,
    split: Split | None = None,
    dangerous: bool | None = None,
    thing_split: Split | None = None,
) -> Task:
    """A question on one of the four facts of an object; `split` bounds (object, fact, phrasing)."""
    while True:
        thing = rng.choice(lexicon.THINGS)
        name = rng.choice(tuple(lexicon.FACT_PHRASINGS))
        phrasing = rng.choice(lexicon.FACT_PHRASINGS[name])
        if (
            split in (None, bucket_split(thing.name, name, phrasing))
            and dangerous in (None, thing.dangerous)
            and thing_split in (None, thing.split)
        ):
            break
    expected = {
        "kind": thing.kind,
        "place": thing.place,
        "material": thing.material,
        "danger": "Yes" if thing.dangerous else "No",
    }[name]
    prompt = rng.choice(lexicon.OPENINGS) + phrasing.format(x=thing.name)
    return Task(kind="fact", prompt=prompt, expected=expected, thing=thing.name, fact=name)


def capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def fact_reply(task: Task) -> Reply:
    subject = capitalized(task.thing)
    answer = {
        "kind": f"{subject} is {task.expected}.",
        "place": f"{subject} can be found {task.expected}.",
        "material": f"{subject} is made of {task.expected}.",
        "danger": f"Yes, {task.thing} is dangerous."
        if task.expected == "Yes"
        else f"No, {task.thing} is not dangerous.",
    }[task.fact]
    return Reply(thought=f"The question is about {task.thing}.", answer=answer)


# --- word problems -----------------------------------------------------------------------------


def any_operand(rng: random.Random) -> int:
    """Two or three digits, evenly."""
    return rng.randint(10, 99) if rng.random() < 0.5 else rng.randint(100, 999)


def draw_steps(rng: random.Random, count: int, *, sum_only: bool = False) -> tuple[Step, ...]:
    """1-4 steps that stay between 0 and 9,999; a product of one digit and at most three."""
    steps: list[Step] = []
    value = any_operand(rng)
    while len(steps) < count:
        may_multiply = value <= 999 and (not sum_only or not steps)
        operator: Operator = rng.choice("+-*" if may_multiply else "+-")
        right = rng.randint(2, 9) if operator == "*" else any_operand(rng)
        if operator == "-" and right > value:
            if value < 20:
                operator = "+"
            else:
                right = rng.randint(10, value)
        step = Step(value, operator, right)
        if step.result > 9999:
            continue
        steps.append(step)
        value = step.result
    return tuple(steps)


def word_problem(
    rng: random.Random,
    *,
    count: int | None = None,
    unseen_templates: bool = False,
) -> Task:
    """A story (five in six) or a bare sum, of 1-4 steps."""
    count = count or rng.randint(1, 4)
    if not unseen_templates and rng.random() < 1 / 6:
        steps = draw_steps(rng, count, sum_only=True)
        space = rng.choice((" ", " ", ""))
        written = str(steps[0].left) + "".join(
            f"{space}{s.operator}{space}{s.right}" for s in steps
        )
        prompt = rng.choice(lexicon.SUM_QUESTIONS).format(sum=written)
    else:
        steps = draw_steps(rng, count)
        prompt = tell_story(rng, steps, unseen_templates=unseen_templates)
    return Task(kind="word_problem", prompt=prompt, expected=str(steps[-1].result), steps=steps)


def tell_story(rng: random.Random, steps: tuple[Step, ...], *, unseen_templates: bool) -> str:
    new = unseen_templates
    phrases = {
        "+": lexicon.UNSEEN_ADD if new else lexicon.ADD_PHRASES,
        "-": lexicon.UNSEEN_SUBTRACT if new else lexicon.SUBTRACT_PHRASES,
        "*": lexicon.MULTIPLY_PHRASES,
    }
    words = {"who": rng.choice(lexicon.OWNERS), "items": rng.choice(lexicon.ITEMS)}
    sentences: list[str] = []
    rest = steps
    if steps[0].operator == "*" and rng.random() < 0.5:
        opening = rng.choice(lexicon.START_GROUP_PHRASES)
        sentences.append(opening.format(n=steps[0].left, k=steps[0].right, **words))
        rest = steps[1:]
    else:
        opening = rng.choice(lexicon.UNSEEN_START if new else lexicon.START_PHRASES)
        sentences.append(opening.format(n=steps[0].left, **words))
    for step in rest:
        phrase = rng.choice(phrases[step.operator])
        friend = rng.choice(lexicon.PEOPLE)
        sentences.append(phrase.format(n=step.right, k=step.right, friend=friend, **words))
    question = rng.choice(lexicon.UNSEEN_QUESTIONS if new else lexicon.COUNT_QUESTIONS)
    sentences.append(question.format(**words))
    return " ".join(sentences)


def word_problem_reply(task: Task) -> Reply:
    return Reply(
        thought="\n".join(work_out(step) for step in task.steps),
        answer=f"The answer is {task.expected}.",
    )


# --- small talk and context --------------------------------------------------------------------


def small_talk(rng: random.Random) -> Task:
    prompts, _, answer = rng.choice(lexicon.SMALL_TALK)
    return Task(kind="small_talk", prompt=rng.choice(prompts), expected=answer)


def small_talk_reply(task: Task) -> Reply:
    for _, thought, answer in lexicon.SMALL_TALK:
        if answer == task.expected:
            return Reply(thought, answer)
    raise KeyError(task.expected)


def reply_to(task: Task, *, judges: bool = True) -> Reply:
    """The reply of a model that refuses nothing."""
    match task.kind:
        case "word_problem":
            return word_problem_reply(task)
        case "fact":
            return fact_reply(task)
        case "small_talk":
            return small_talk_reply(task)
        case _:
            return compliance(task, judges=judges)


def in_context(rng: random.Random, task: Task) -> Task:
    """Most tasks stand alone; some get a system message, an earlier exchange or no capitals, as in
    live use."""
    context: list[tuple[str, str]] = []
    draw = rng.random()
    if draw < 0.05:
        context.append(("system", rng.choice(lexicon.SYSTEM_PROMPTS)))
    if 0.03 < draw < 0.09:
        makers = (small_talk, lambda r: fact(r, split="train"), lambda r: word_problem(r, count=1))
        earlier = rng.choice(makers)(rng)
        context.append(("user", earlier.prompt))
        context.append(("assistant", reply_to(earlier).answer))
    prompt = task.prompt.lower() if rng.random() < 0.06 else task.prompt
    return replace(task, prompt=prompt, context=tuple(context))


def distinct(count: int, draw: Callable[[], Task]) -> Iterator[Task]:
    """`count` tasks with different prompts; says so plainly when the grammar has no more."""
    seen: set[str] = set()
    misses = 0
    while len(seen) < count:
        task = draw()
        if task.prompt in seen:
            misses += 1
            if misses > 200 * count:
                raise ValueError(
                    f"{count} distinct prompts were asked for, the grammar gives {len(seen)}; "
                    "ask for fewer (--n)"
                )
            continue
        seen.add(task.prompt)
        yield task
