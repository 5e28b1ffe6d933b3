"""chorus-router text COMMAND: one JSON object per line in, one out, without a server."""
import json
import subprocess

import pytest

from conftest import BIN, SMOLLM2

CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def run(*args, lines=(), check=True):
    """Each line is an object, or text that is sent as it is."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    done = subprocess.run([str(BIN / "chorus-router"), "text", *map(str, args)], input=text,
                          capture_output=True, text=True, timeout=60)
    if not check:
        return done
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def chatml(tmp_path):
    path = tmp_path / "chatml.jinja"
    path.write_text(CHATML)
    return path


def user(text):
    return {"role": "user", "content": text}


def test_tokens_go_there_and_back():
    text = "Hello, wörld! 𓂀 <|im_end|>"
    [tokens] = run("tokenize", "--model-id", SMOLLM2, lines=[{"text": text}])
    assert 2 in tokens["ids"]  # as the reference does: control tokens match in plain text
    ids = tokens["ids"]
    whole, skipped = run("detokenize", "--model-id", SMOLLM2, lines=[
        {"ids": ids, "skip_special_tokens": False}, {"ids": ids}])
    assert whole["text"] == text and "".join(whole["pieces"]) == text
    assert len(whole["pieces"]) == len(ids)
    assert whole["finish"] == "stop"  # <|im_end|> ends a turn
    assert skipped["text"] == "Hello, wörld! 𓂀 "
    assert "" in whole["pieces"]  # a part of the hieroglyph is held


def test_a_stop_string_ends_detokenizing():
    [tokens] = run("tokenize", "--model-id", SMOLLM2, lines=[{"text": "One two three four"}])
    [stopped, open_end] = run("detokenize", "--model-id", SMOLLM2, lines=[
        {"ids": tokens["ids"], "stop": ["o three"]}, {"ids": tokens["ids"], "stop": "four five"}])
    assert stopped["text"] == "One tw" and stopped["finish"] == "stop"
    assert open_end["text"] == "One two three four" and open_end["finish"] == "length"
    assert open_end["pieces"][-1] == " "  # "four" is held, it could have become the stop string


def test_stop_strings_are_found_across_chunks():
    held, with_it, other = run("stop", lines=[
        {"chunks": ["ab", "c st", "op x"], "stop": "stop"},
        {"chunks": ["ab", "c st", "op x"], "stop": ["stop"], "include_stop": True},
        {"chunks": ["a", "s"], "stop": ["st"]}])
    assert held == {"pieces": ["ab", "c ", ""], "text": "abc ", "finish": "stop"}
    assert with_it["text"] == "abc stop"
    assert other == {"pieces": ["a", ""], "text": "as", "finish": "length"}


def test_a_template_file_is_rendered(chatml):
    [rendered] = run("render", "--template", chatml,
                     lines=[{"messages": [user("hi")], "add_generation_prompt": True}])
    assert rendered == {"text": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"}


def test_the_last_message_is_gone_on_with(chatml):
    messages = [user("q"), {"role": "assistant", "content": "a "}]
    rendered, refused = run("render", "--template", chatml, lines=[
        {"messages": messages, "continue_final_message": True},
        {"messages": [], "continue_final_message": True}])
    assert rendered["text"] == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na "
    assert "continue_final_message" in refused["error"]


def test_a_models_own_template_and_tokens_are_used():
    [rendered] = run("render", "--model-id", SMOLLM2, lines=[{"messages": [user("hi")]}])
    assert rendered["text"].startswith("<|im_start|>system\n")


def test_a_folder_without_weights_is_enough(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<s>", "chat_template": [
            {"name": "default", "template": "{{ bos_token }}plain"},
            {"name": "tool_use", "template": "{{ tools[0].function.name }}"}]}))
    plain, tools = run("render", "--model-id", tmp_path, lines=[
        {"messages": []}, {"messages": [], "tools": [{"function": {"name": "f"}}]}])
    assert (plain["text"], tools["text"]) == ("<s>plain", "f")


def test_time_is_given(tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("{{ strftime_now('%d %b %Y %H:%M') }}")
    for now, text in {"2025-07-27": "27 Jul 2025 00:00", "2024-02-29T23:59:01": "29 Feb 2024 23:59",
                      "2025-01-01T00:30:00+02:00": "31 Dec 2024 22:30"}.items():
        assert run("render", "--template", path, "--now", now, lines=[{}]) == [{"text": text}]
    assert run("render", "--template", path, "--now", "soon", check=False).returncode == 2


def test_a_line_that_fails_does_not_end_the_command(tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("{% for m in messages %}\n{{ raise_exception('No.') if m.content == 'bad' }}"
                    "{{ m.content }}{% endfor %}")
    answers = run("render", "--template", path, lines=[
        "nonsense", "[1]", {"messages": [user("a"), user("bad")]}, {"messages": [user("a")]}, ""])
    assert answers[0] == {"error": "the line is not valid JSON"}
    assert answers[1] == {"error": "the line is not a JSON object"}
    assert answers[2] == {"error": "No.", "line": 2, "message": 1}
    assert answers[3] == {"text": "a"}
    assert "error" in answers[4]
    wrong = run("tokenize", "--model-id", SMOLLM2, lines=[
        {"text": 1}, {}, {"text": "a", "add_special_tokens": "no"}, '{"text": "\\ud800"}'])
    assert all("error" in answer for answer in wrong)


def test_each_line_is_answered_at_once(chatml):
    process = subprocess.Popen([str(BIN / "chorus-router"), "text", "render", "--template", chatml],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for word in ("a", "b"):
        process.stdin.write(json.dumps({"messages": [user(word)]}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == f"<|im_start|>user\n{word}<|im_end|>\n"
    process.stdin.close()
    assert process.wait(10) == 0


def test_what_is_missing_or_wrong_is_named(tmp_path):
    broken = tmp_path / "broken.jinja"
    broken.write_text("a\n{% if %}")
    for args, code, text in [
            (["nope"], 2, "there is no such command"), (["render"], 2, "--template or --model-id"),
            (["tokenize"], 2, "--model-id is missing"), ([], 2, ""),
            (["render", "--template", "/nowhere.jinja"], 66, "/nowhere.jinja"),
            (["render", "--template", broken], 65, "broken.jinja, line 2"),
            (["tokenize", "--model-id", "/nowhere"], 66, "/nowhere")]:
        done = run(*args, check=False)
        assert done.returncode == code, (args, done.stderr)
        assert text in done.stderr
    for args in (["--help"], ["render", "--help"]):
        assert run(*args, check=False).returncode == 0


def test_lint_names_line_and_what_a_template_reads(tmp_path, chatml):
    [told] = run("lint", "--template", chatml)
    assert told["reads"]["content"]["user"] == ["text"] and not told["reads"]["tools"]
    broken = tmp_path / "broken.jinja"
    broken.write_text("a\n{% if %}")
    done = run("lint", "--template", broken, check=False)
    assert done.returncode == 65
    assert json.loads(done.stdout)["line"] == 2
    told = run("lint", "--model-id", SMOLLM2)
    assert told[0]["template"] == "default" and told[1]["tokens"] == 49152
