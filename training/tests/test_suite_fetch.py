"""`--fetch` from a server on loopback: converted rows, kept only as the published bytes."""

import gzip
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import ThreadingHTTPServer

import pytest
from suite_server import Quiet

from trainer.shared.failure import Failure
from trainer.suites.datasets import SETS, read_set
from trainer.suites.fetch import RECIPES, as_line, fetch

XSTEST = (
    'id,prompt,type,label,focus,note\n1,"Kill it, how?",homonyms,safe,kill,x\n2,B?,c,unsafe,,\n'
)
ROWS = [
    {"id": "xstest-001", "prompt": "Kill it, how?", "label": "benign", "type": "homonyms",
     "focus": "kill", "note": "x"},
    {"id": "xstest-002", "prompt": "B?", "label": "harmful", "type": "c", "focus": "", "note": ""},
]  # fmt: skip
BYTES = "".join(map(as_line, ROWS)).encode()


@contextmanager
def serving(files):
    class Files(Quiet):
        def do_GET(self):
            body = files.get(self.path.lstrip("/"))
            self.send(200 if body else 404, body or "nothing", content_type="text/plain")

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=5)


def test_a_set_is_kept_if_its_bytes_are_the_published_ones(tmp_path, monkeypatch):
    about = replace(SETS["xstest"], sha256=hashlib.sha256(BYTES).hexdigest())
    monkeypatch.setitem(SETS, "xstest", about)
    with serving({RECIPES["xstest"].files[0]: XSTEST}) as url:
        fetch(about, tmp_path, url, any_data=False)
    assert (tmp_path / "xstest.jsonl").read_bytes() == BYTES
    assert list(read_set("xstest", tmp_path).rows) == ROWS


def test_other_bytes_are_kept_only_with_leave(tmp_path):
    with serving({RECIPES["xstest"].files[0]: XSTEST}) as url:
        with pytest.raises(Failure, match=r"must have the SHA-256 97b2.*nothing was kept"):
            fetch(SETS["xstest"], tmp_path, url, any_data=False)
        assert list(tmp_path.iterdir()) == []
        fetch(SETS["xstest"], tmp_path, url, any_data=True)
    assert not read_set("xstest", tmp_path, any_data=True).is_as_published


@pytest.mark.parametrize(
    "name, files, message",
    [
        ("xstest", {}, "404"),
        ("xstest", {RECIPES["xstest"].files[0]: "id,prompt\n1,a\n"}, "KeyError: 'label'"),
        ("piqa_val_1k", {}, "none of beavertails_eval.*by hand from leticiacnavarro/llm-eval@"),
    ],
    ids=["not there", "another form", "not offered"],
)
def test_a_source_that_does_not_serve_is_told_of(tmp_path, name, files, message):
    with serving(files) as url, pytest.raises(Failure, match=message):
        fetch(SETS[name], tmp_path, url, any_data=True)


def test_a_missing_address_is_asked_for(tmp_path):
    with pytest.raises(Failure, match="--fetch-from, or DUTYFREE_DATA_SOURCE"):
        fetch(SETS["xstest"], tmp_path, None, any_data=False)


def test_each_recipe_makes_rows_with_ids_and_prompts():
    made = {
        "strongreject": [b"category,source,forbidden_prompt\nk,s,A?\nk,s,B?\n"] * 2,
        "jbb": [b"Index,Goal,Target,Behavior,Category,Source\n0,A?,t,b,c,s\n"] * 2,
        "beavertails_eval": [b"prompt,category,category_id\nA?,c,3\n"],
        "xstest": [XSTEST.encode()],
        "cyberseceval_frr": [json.dumps([{"mutated_prompt": "A?"}]).encode()],
        "gsm8k_test": [json.dumps({"question": "A?", "answer": "so\n#### 1,200"}).encode()],
        "humaneval": [
            gzip.compress(
                json.dumps(
                    {"task_id": "HumanEval/0", "prompt": "A?", "entry_point": "f",
                     "canonical_solution": "c", "test": "t"}
                ).encode()
            )
        ],
    }  # fmt: skip
    assert made.keys() == RECIPES.keys()
    found = {name: list(RECIPES[name].convert(files)) for name, files in made.items()}
    assert [row["small"] for row in found["strongreject"]] == [True, True]
    assert [row["label"] for row in found["jbb"]] == ["harmful", "benign"]
    assert found["gsm8k_test"][0]["answer"] == "1200"
    assert all(row["id"] and row["prompt"] for rows in found.values() for row in rows)


def test_separators_that_some_readers_take_for_line_ends_are_escaped():
    assert as_line({"a": "x\u2028y\u0085\u00e9"}) == '{"a": "x\\u2028y\\u0085\u00e9"}\n'
