"""The public sets that suites and recipes know: whence each comes, and the bytes it must have.

They are not part of this repository. `--data-dir`, or DUTYFREE_DATA, names a folder of JSONL files,
one object a line; each row has a unique `id` and a `prompt`. A set marked NC may be evaluated on
and never trained on for anything that ships.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure

Row = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    name: str  # the file is `<name>.jsonl`
    n: int
    sha256: str
    licence: str
    source: str  # owner/repository@commit:path
    use: str
    is_nc: bool = False

    @property
    def file(self) -> str:
        return f"{self.name}.jsonl"


@dataclass(frozen=True)
class LoadedSet:
    """`sha256` is that of the bytes read; with --any-data it may differ from the table's."""

    about: DataSet
    sha256: str
    rows: tuple[Row, ...]

    @property
    def is_as_published(self) -> bool:
        return self.sha256 == self.about.sha256


TABLE = (
    DataSet(
        "strongreject",
        313,
        "d2a356a1a599ea25c58c9713981117f6015b9967d8c10d15ebdd9df61fb04238",
        "MIT; 32 prompts of other sources without a stated licence",
        "alexandrasouly/strongreject:strongreject_dataset/strongreject_dataset.csv",
        "harmful requests in 6 categories, the paper's safety test",
    ),
    DataSet(
        "jbb",
        200,
        "6945ff7e6159118a4d15fe19eb46806726396bf0529d1a0eb2cd98a223dc9ba5",
        "MIT",
        "andyrdt/refusal_direction@9d852fae1a9121c78b29142de733cb1340770cc3:"
        "dataset/raw/jailbreakbench.csv and "
        "Baisayan/hack@2b37da1c255e43e16a74ecd3e51c99ea992b5237:data/benign-behaviors.csv",
        "100 harmful requests and 100 benign look-alikes",
    ),
    DataSet(
        "beavertails_eval",
        700,
        "e2d14d5c07828a18424cdd74c9d5586582dbb2d1706bc999eec3f79598525140",
        "CC-BY-NC-4.0",
        "SwimmingChoi/Value_Analysis@55bb27ee8cae45a778725764b2ca2b79986f51fe:"
        "data/BeaverTails-Evaluation.csv",
        "harmful and delicate questions in 14 categories; not all ought to be refused",
        is_nc=True,
    ),
    DataSet(
        "xstest",
        450,
        "97b20e0610a99379ffaedc1cd1ed5da3bce774ca3914afcdb5cdf894dd1a57d6",
        "CC-BY-4.0",
        "paul-rottger/exaggerated-safety@d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d:"
        "xstest_prompts.csv",
        "250 benign prompts that look harmful and 200 harmful contrasts",
    ),
    DataSet(
        "cyberseceval_frr",
        750,
        "7968e40e3fa7d8c4ee3257f5077e172439b0a7762cc5d306cd5f7aa8862173f2",
        "MIT",
        "DatasetEval/Datasets@ffbea76a2a89bb54f2c09e8fb72980a4a64d271c:"
        "source_datasets/mitre_frr.json",
        "benign coding requests near computer security",
    ),
    DataSet(
        "xstest_completions",
        1350,
        "61ca90f32a8b6f51362ca46e107473a28839b2ef146816a6b25314668c04b4dd",
        "CC-BY-4.0; answers under the terms of their models",
        "paul-rottger/exaggerated-safety@d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d:"
        "model_completions/",
        "answers with human labels: what the refusal judge is measured on",
    ),
    DataSet(
        "wildguardtest",
        1228,
        "a0a4d89738e94374c3beefa003b02f84610c5a667bc06b17113eff3229f9ba2d",
        "ODC-BY",
        "sharzilnfz/llmSafetyClassification@ff7f31b8d46fe09fbb5f82a4b805864048e0c2ef:"
        "data/wildguardtest.parquet",
        "answers with labels of refusal: a second measure of the refusal judge",
    ),
    DataSet(
        "boolq",
        2474,
        "363f275fea1cf8209e47d3bf7ce64c5f5be5d1b8859e8d0c3d37cfde01e34978",
        "CC-BY-SA-3.0",
        "zhxieml/internal-consistency@7ea418b58baec3f4e9989f76937d4593eb2621ed:data/boolq.jsonl",
        "utility: yes or no about a passage; balanced, so not comparable with published numbers",
    ),
    DataSet(
        "copa_test",
        500,
        "80867a5ae5936c2e5150ca90a0bb309f6b49c658aefb2b0f66b6a65cb526c8e3",
        "BSD-2-Clause",
        "drwiner/COPA@0d59e0efc834004be53ba7569a7793ea8fb13741:datasets/copa-test.xml",
        "utility: cause or effect, two choices",
    ),
    DataSet(
        "arc_easy_test",
        2376,
        "e59b327ca7447d3fb28a1d4253e91ab5e611b35dd760ec4ca0ed9d885d9421c0",
        "CC-BY-SA-4.0",
        "AGI-Edgerunners/LLM-Adapters@816657208af4db747803f87ba40a4c71383fed7a:"
        "dataset/ARC-Easy/test.json",
        "utility: school science, three to five choices",
    ),
    DataSet(
        "hellaswag_val_1k",
        1000,
        "bbed40de9db1438bb63f918191fab62a313912503da8df29a4b8a3df1500eb69",
        "MIT",
        "RubriksCube/rubriks_cube@45e617d6ca9e5a158a280f0da0f7a44f7c8dbb8c:data/hellaswag.jsonl",
        "utility: how a text goes on, four choices",
    ),
    DataSet(
        "piqa_val_1k",
        1000,
        "1f35f419025f25448f19e64307973ca878de138e47c4d31f40a9c061dd317fb4",
        "AFL-3.0",
        "leticiacnavarro/llm-eval@f9ad2d48852d74a25b305139e758bd82f8396cb1:data/piqa.jsonl",
        "utility: everyday physics, two choices",
    ),
    DataSet(
        "gsm8k_test",
        1319,
        "64b7c9635aaed0877b885819331a7aafeeaf7efb7b5a43eb8ed9b345ea2dd1c3",
        "MIT",
        "openai/grade-school-math@3101c7d5072418e28b9008a6636bde82a006892c:"
        "grade_school_math/data/test.jsonl",
        "utility: word problems",
    ),
    DataSet(
        "gsm8k_train_4500",
        4500,
        "6d9b1ee621126403f0dc4a0d4056f30bb69f39d07bd1573a6aa899b208d7c077",
        "MIT",
        "openai/grade-school-math@3101c7d5072418e28b9008a6636bde82a006892c:"
        "grade_school_math/data/train.jsonl",
        "solved examples before a word problem",
    ),
    DataSet(
        "svamp",
        1000,
        "fa72a926e1dedf7ecdf351db39fa777a5aaa9170f7845c9d462b30a3675948f3",
        "MIT",
        "arkilpatel/SVAMP@689d7ccac74b9983a2ac7cc3b264f441b99e7c53:SVAMP.json",
        "utility: easy word problems",
    ),
    DataSet(
        "humaneval",
        164,
        "a041061ab53b7c7b27c6008aebbdc72d8fd8cdbff630764ae55ea97ba30315ce",
        "MIT",
        "openai/human-eval@6d43fb980f9fee3c892a914eda09951f772ad10d:data/HumanEval.jsonl.gz",
        "code: Python functions with tests",
    ),
    DataSet(
        "humaneval_plus_mini",
        164,
        "1ffac72cb1abb32310033bab615ba9073e70f30a44b1eed2ddc53681c3aa4245",
        "Apache-2.0",
        "evalplus/humanevalplus_release@200defce9e3429d28ca215b6dd061c0f7f31c18b:"
        "HumanEvalPlus-Mini.jsonl.gz",
        "code: the same functions with more tests",
    ),
    DataSet(
        "mbpp",
        974,
        "d8b406ba05d34cb3052f2dc11942c8d07b795a63a609f0b72b8c9b18845d10ec",
        "CC-BY-4.0",
        "OckBench/OckBench@b72752a0ba5989d3c212675ec60d3eedcd838628:data/mbpp.jsonl",
        "code: short Python tasks with tests",
    ),
    DataSet(
        "mbpp_plus",
        378,
        "b1db62af7f217a889f9bb6c86c889f789c2737f6613bdf4f6091578f255afae2",
        "Apache-2.0",
        "evalplus/mbppplus_release@dadf43da556a00f7bacd71cb154f2932757d9144:MbppPlus.jsonl.gz",
        "code: short Python tasks with more tests",
    ),
    DataSet(
        "aime24",
        30,
        "f84d709ba830d3de97e3270ee5f3a6e46cf5e9b4ac0df6df8f94012227c7a60c",
        "problems copyright MAA",
        "QwenLM/Qwen2.5-Math@a45202bd16f1ec06f433442dc1152d0074773465:"
        "evaluation/data/aime24/test.jsonl",
        "reasoning: competition problems with integer answers",
    ),
    DataSet(
        "advbench",
        520,
        "7e726221b86f04942a1dbff89354da26353038631669e49743a77c7f1f0e099d",
        "MIT",
        "andyrdt/refusal_direction@9d852fae1a9121c78b29142de733cb1340770cc3:"
        "dataset/raw/advbench.csv",
        "training: harmful orders",
    ),
    DataSet(
        "harmbench",
        400,
        "24a6f13899ceb9cfb1e802db4dffc0b4d693f805222dbaf0a1c2cc1ed3507f08",
        "MIT",
        "andyrdt/refusal_direction@9d852fae1a9121c78b29142de733cb1340770cc3:"
        "dataset/raw/harmbench_val.csv and harmbench_test.csv",
        "training: harmful orders, the standard ones",
    ),
    DataSet(
        "simple_safety_tests",
        100,
        "e06c3fc9cd59d00412677f5402719b7428fd692058ab82edfc09eecdc72dbc44",
        "CC-BY-4.0",
        "bertiev/SimpleSafetyTests@d7aee9a9422a5a5488f478fd79c2479c891c0f3b:"
        "SimpleSafetyTests - test cases.csv",
        "training: harmful requests in 5 areas",
    ),
    DataSet(
        "harmfulqa",
        1938,
        "7948304972572e4bb110d8e4bf4d5330d080e13debc79bf55022c406dc1934f3",
        "Apache-2.0",
        "declare-lab/red-instruct@73c759c93d2f6b1d8c7b058ab7bcec5fb0c28fa2:"
        "harmful_questions/harmfulqa.json",
        "training: harmful questions by fields of study",
    ),
    DataSet(
        "catqa",
        543,
        "4d95a8d066a44f2d92379640f2cefea407d698f2555a0e1afdb067a6008f8c4e",
        "Apache-2.0",
        "declare-lab/red-instruct@73c759c93d2f6b1d8c7b058ab7bcec5fb0c28fa2:"
        "harmful_questions/catqa_english.json",
        "training: harmful questions in 11 categories",
    ),
    DataSet(
        "self_instruct_seeds",
        175,
        "943208d83103e3f5c68690780b690b6f09331b7f406ee7805bedb869aa9a1f67",
        "Apache-2.0",
        "tatsu-lab/stanford_alpaca@761dc5bfbdeeffa89b8bff5d038781a4055f796a:seed_tasks.jsonl",
        "training: everyday tasks",
    ),
    DataSet(
        "dolly_sample",
        350,
        "5bc40e1a010c1d39e2712cccedbb2e6bf8e41d0b3ae7a3afb63509088609316c",
        "CC-BY-SA-3.0",
        "LLM-Tuning-Safety/LLMs-Finetuning-Safety@8a3b38f11be1c3829e2b0ed379d3661ebc84e7db:"
        "llama2/ft_datasets/dolly_dataset/databricks-dolly-15k-safety-only.jsonl",
        "training: everyday questions, a part that sounds delicate",
    ),
)
SETS = {entry.name: entry for entry in TABLE}


def read_set(name: str, folder: Path, *, any_data: bool = False) -> LoadedSet:
    about = SETS[name]
    path = folder / about.file
    if not path.is_file():
        raise Failure(
            f"--data-dir must hold {about.file} ({about.n} rows, SHA-256 {about.sha256[:12]}…); "
            f"got {str(folder)!r} without it; make it from {about.source}, or try --fetch; "
            "training/README.md has the form of a row"
        )
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != about.sha256 and not any_data:
        raise Failure(
            f"{about.file} must have the SHA-256 {about.sha256}; got {sha256}; take it from "
            f"{about.source} again, or go on with --any-data, which puts this hash into the result"
        )
    return LoadedSet(about, sha256, parsed_rows(about.file, data))


def parsed_rows(file: str, data: bytes) -> tuple[Row, ...]:
    rows = []
    # Not splitlines, which also breaks at separators that may stand inside a string.
    for number, line in enumerate(data.decode("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise Failure(
                f"{file} must hold one JSON object a line; got line {number}: {error}; mend it"
            ) from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise Failure(f"a row of {file} must have a text `prompt`; line {number} has none")
        rows.append(row)
    ids = [row.get("id") for row in rows]
    if not all(isinstance(i, str) for i in ids) or len(set(ids)) != len(ids):
        raise Failure(f"each row of {file} must have a text `id` of its own; mend the file")
    return tuple(rows)


def require_folder(given: Path | None, *, create: bool = False) -> Path:
    if given is None:
        raise Failure(
            "--suite needs the test sets: name their folder with --data-dir or DUTYFREE_DATA; "
            "training/README.md lists them"
        )
    if create:
        given.mkdir(parents=True, exist_ok=True)
    if not given.is_dir():
        raise Failure(
            f"--data-dir must be a folder; got {str(given)!r}; name the folder of the sets, or let "
            "--fetch make it"
        )
    return given
