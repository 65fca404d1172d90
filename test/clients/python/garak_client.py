"""garak: its test probe by its command; every prompt has its answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

from check import MODEL, URL, check, equal

options = {"openai": {"OpenAICompatible": {"uri": f"{URL}/v1/", "max_tokens": 64, "timeout": 60}}}
Path("options.json").write_text(json.dumps(options))


def probed():
    command = [sys.executable, "-m", "garak", "--target_type", "openai.OpenAICompatible"]
    command += ["--target_name", MODEL, "--generator_option_file", "options.json"]
    command += ["--probes", "test.Test", "--generations", "2", "--report_prefix", "report"]
    home = Path.cwd() / "share"
    told = {"OPENAICOMPATIBLE_API_KEY": "unused", "XDG_DATA_HOME": str(home)}
    done = subprocess.run(
        command, env={**os.environ, **told}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-300:]
    [report] = home.rglob("report.report.jsonl")
    entries = [json.loads(line) for line in report.read_text().splitlines()]
    attempts = [
        entry for entry in entries if entry["entry_type"] == "attempt" and entry["status"] == 2
    ]
    outputs = [output for attempt in attempts for output in attempt["outputs"]]
    assert attempts and all(output is not None for output in outputs), outputs
    equal(len(outputs), 2 * len(attempts))


check("a probe, two answers a prompt", probed)
