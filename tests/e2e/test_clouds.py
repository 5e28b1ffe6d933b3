"""The launcher as clouds start it: by a verb and variables instead of flags."""
import json
import os
import subprocess
import time
import urllib.request

import pytest

from conftest import BIN, SMOLLM2, free_port

OURS = ("HF_", "SM_", "AIP_", "SAGEMAKER_")


class Container:
    def __init__(self, *words, env):
        variables = {k: v for k, v in os.environ.items()
                     if not k.startswith(OURS) and k not in ("MODEL_ID", "PORT", "K_SERVICE")}
        self.process = subprocess.Popen(
            [str(BIN / "chorus-launcher"), *words], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**variables, "HOSTNAME": "127.0.0.1", **env})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def wait_ready(self, port, path="/health", seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                    return answer.status
            except OSError:
                assert self.process.poll() is None, self.process.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.out, self.log = self.process.communicate(timeout=30)
        return self.process.returncode


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def names(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2) as answer:
        return [model["id"] for model in json.load(answer)["data"]]


def test_sagemaker_starts_serve_and_finds_its_model_and_port():
    port = free_port()
    env = {"HF_MODEL_ID": str(SMOLLM2), "SAGEMAKER_BIND_TO_PORT": str(port), "SM_NUM_GPUS": "2",
           "PORT": "80"}
    with Container("serve", env=env) as container:
        assert container.wait_ready(port, "/ping") == 200
        assert names(port) == [SMOLLM2.stem]
        answer = post(port, "/invocations", {"inputs": "One, two,",
                                             "parameters": {"max_new_tokens": 2}})
        assert answer[0]["generated_text"]
        begin = time.monotonic()
        assert container.stop() == 0
        assert time.monotonic() - begin < 25
        for line in (f"--model-id {SMOLLM2}: from environment variable HF_MODEL_ID",
                     "--num-shard 2: from environment variable SM_NUM_GPUS",
                     "--graceful-termination-timeout 25: from SageMaker's limit"):
            assert line in container.log
        assert "2 shards" in container.out


def test_sagemaker_takes_messages_where_it_is_told_to():
    port = free_port()
    env = {"HF_MODEL_ID": str(SMOLLM2), "SAGEMAKER_BIND_TO_PORT": str(port),
           "MESSAGES_API_ENABLED": "true"}
    with Container("serve", env=env) as container:
        container.wait_ready(port, "/ping")
        answer = post(port, "/invocations", {
            "model": "tgi", "max_tokens": 2, "messages": [{"role": "user", "content": "Hello"}]})
        assert answer["object"] == "chat.completion"


def test_vertex_names_its_routes():
    port = free_port()
    env = {"MODEL_ID": str(SMOLLM2), "AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/are-you-well",
           "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict"}
    with Container(env=env) as container:
        assert container.wait_ready(port, "/are-you-well") == 200
        answer = post(port, "/v1/endpoints/1/deployedModels/2:predict", {
            "instances": [{"inputs": "One, two,", "parameters": {"max_new_tokens": 2}}]})
        assert len(answer["predictions"]) == 1


def test_vertex_names_the_port_and_flags_count_first():
    port, other = free_port(), free_port()
    env = {"MODEL_ID": str(SMOLLM2), "AIP_HTTP_PORT": str(port), "PORT": "80",
           "AIP_STORAGE_URI": "gs://bucket/model", "SERVED_MODEL_NAME": "tiny"}
    with Container(env=env) as container:
        assert container.wait_ready(port) == 200
        assert names(port) == ["tiny"]
        assert container.stop() == 0
        assert "buckets are not read" in container.log
    with Container("--port", str(other), env=env) as container:
        assert container.wait_ready(other) == 200
        assert container.stop() == 0
        assert "AIP_HTTP_PORT" not in container.log


@pytest.mark.parametrize("words,env,said", [
    (["serve"], {}, "/opt/ml/model holds neither config.json nor one .gguf file"),
    ([], {"AIP_STORAGE_URI": "gs://bucket/model"}, "gs://bucket/model"),
    ([], {"MODEL_ID": "m", "AIP_HTTP_PORT": "http"}, "environment variable AIP_HTTP_PORT: 'http'"),
])
def test_what_a_cloud_lacks_is_named(words, env, said):
    with Container(*words, env=env) as container:
        assert container.process.wait(10) == 2
        assert said in container.process.stderr.read()
