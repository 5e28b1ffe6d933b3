"""Requests generated from the server's own OpenAPI document, good ones and bad ones, for
CHORUS_SCHEMA_SECONDS (60): no 5xx, no answer that the document does not describe, no hang."""
import os
import pathlib
import subprocess
import sys

import httpx

from conftest import alive, serving

SECONDS = int(os.environ.get("CHORUS_SCHEMA_SECONDS", 60))
HERE = pathlib.Path(__file__).parent
KEY = {"Authorization": "Bearer sekret"}


def test_generated_requests_are_answered_as_documented(tmp_path):
    # A small context bounds what a request may ask for, so that many are asked.
    with serving("--api-key", "sekret", "--max-total-tokens", "128", "--max-input-tokens", "120",
                 "--max-concurrent-requests", "8") as server:
        shards = server.pids("chorus-shard")
        tool = pathlib.Path(sys.executable).parent / "schemathesis"
        out = subprocess.run(
            [tool, "--config-file", HERE / "schemathesis.toml", "run", server.url + "/openapi.json",
             "--max-time", str(SECONDS), "-H", f"Authorization: {KEY['Authorization']}"],
            cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS + 300)
        assert out.returncode == 0, out.stdout[-20000:] + out.stderr
        faults = [line for line in server.errors if " ERROR " in line or " 500 in " in line]
        assert not faults, "\n".join(faults[:20])
        assert server.pids("chorus-shard") == shards and all(map(alive, shards))
        answer = httpx.post(server.url + "/v1/completions", headers=KEY, timeout=60,
                            json={"prompt": "The capital of France is", "max_tokens": 2})
        assert answer.status_code == 200
