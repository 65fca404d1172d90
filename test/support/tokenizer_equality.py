"""Answers of the reference library (Python package tokenizers) for the test of equality.

    python tokenizer_equality.py FOLDER train        small BPEs, one folder for each pre-tokenizer
    python tokenizer_equality.py FOLDER encode T...  strings.jsonl to ids of each tokenizer.json T
    python tokenizer_equality.py FOLDER unicode      categories, numbers and NFC of code points
"""

import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
DEEPSEEK3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(expression: str):
    return pre.Split(Regex(expression), "isolated")


def bytes_of(use_regex: bool):
    return pre.ByteLevel(add_prefix_space=False, use_regex=use_regex)


VARIANTS = {
    "qwen2": (normalizers.NFC(), [split(QWEN2), bytes_of(False)]),
    "llama3": (None, [split(LLAMA3), bytes_of(False)]),
    "deepseek3": (
        normalizers.Sequence([]),
        [split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3), bytes_of(False)],
    ),
    "deepseek-coder": (
        None,
        [
            split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
            split("[一-龥ࠀ-一가-\ud7ff]+"), pre.Digits(individual_digits=True), bytes_of(False),
        ],
    ),
    "gpt2": (None, [bytes_of(True)]),
    "smollm2": (None, [pre.Digits(individual_digits=True), bytes_of(True)]),
    "digits": (None, [pre.Digits(individual_digits=False), bytes_of(True)]),
    "tekken": (None, [split(TEKKEN), bytes_of(False)]),
}  # fmt: skip


def train(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "strings.jsonl").open(encoding="utf8")]
    corpus = [Path(__file__).read_text("utf8"), *lines[:1000]]
    alphabet = pre.ByteLevel.alphabet()
    for name, (normalizer, steps) in VARIANTS.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre.Sequence(steps) if len(steps) > 1 else steps[0]
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=2000, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(corpus, trainer)
        tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|a|>", "<|a|>b")])
        tokenizer.add_tokens(
            [
                AddedToken("<think>", normalized=False),
                AddedToken("e\u0301<", normalized=True),
                AddedToken("<th", normalized=True),
                AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
                AddedToken("[left]", lstrip=True, normalized=True),
                AddedToken("the", normalized=False, rstrip=name == "gpt2"),
            ]
        )
        (folder / name).mkdir()
        tokenizer.save(str(folder / name / "tokenizer.json"))


def encode(folder: Path, files: list[str]) -> None:
    texts = [json.loads(line) for line in (folder / "strings.jsonl").open(encoding="utf8")]
    for index, file in enumerate(files):
        tokenizer = Tokenizer.from_file(file)
        with (folder / f"ids-{index}.jsonl").open("w", encoding="utf8") as out:
            for start in range(0, len(texts), 1000):
                part = texts[start : start + 1000]
                for encoding in tokenizer.encode_batch(part, add_special_tokens=False):
                    out.write(json.dumps(encoding.ids) + "\n")


def unicode(folder: Path) -> None:
    asked = json.loads((folder / "unicode.json").read_text("utf8"))
    texts = ["".join(map(chr, asked["codePoints"]))]
    answers = {
        "categories": {
            name: matches(Regex(rf"\p{{{name}}}"), texts[0]) for name in asked["categories"]
        },
        "spaces": matches(Regex(r"\s"), texts[0]),
        "numbers": "".join(
            piece
            for piece, _ in pre.Digits(individual_digits=True).pre_tokenize_str(
                "x" + "x".join(texts[0]) + "x"
            )
            if len(piece) == 1 and piece != "x"
        ),
        "normalized": [normalizers.NFC().normalize_str(text) for text in asked["texts"]],
    }
    (folder / "answers.json").write_text(json.dumps(answers), "utf8")


def matches(expression: Regex, text: str) -> str:
    found = pre.Split(expression, "removed", invert=True).pre_tokenize_str(text)
    return "".join(piece for piece, _ in found)


def main() -> None:
    folder, command, *files = Path(sys.argv[1]), *sys.argv[2:]
    if command == "train":
        train(folder)
    elif command == "encode":
        encode(folder, files)
    else:
        unicode(folder)


if __name__ == "__main__":
    main()
