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

CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295"
    "-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e"
    "-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0"
    "-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79"
    "-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0"
    "-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113"
    "\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0"
    "-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
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
    "deepseek-llm": (
        None,
        [
            split("[\r\n]"), split(rf"\s?[{CASED}]+"),
            split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
            split(r"\s+$"), split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            pre.Digits(individual_digits=True), bytes_of(False),
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
