"""Tools, messages and twelve conversations for jinja_golden.py and chat_templates.py."""

NOW = 1753617845

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Current weather at a place, \"now\" <&>",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city, e.g. Zürich"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "search", "description": "Searches", "strict": True,
        "parameters": {"type": "object", "properties": {
            "query": {"type": ["string", "null"]},
            "filters": {"type": "array", "items": {"type": "object", "properties": {
                "field": {"type": "string"}, "value": {"anyOf": [{"type": "string"},
                                                                 {"type": "number"}]}}}},
            "limit": {"type": "number", "default": 1e20}},
            "required": ["query", "filters"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "noop", "description": "Does nothing",
                                      "parameters": {"type": "object", "properties": {}}}},
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, call_id="abcdefghi"):
    return {"id": call_id, "type": "function",
            "function": {"name": name, "arguments": arguments}}


def result(text, name="get_weather", call_id="abcdefghi"):
    return {"role": "tool", "content": text, "name": name, "tool_call_id": call_id}


SYSTEM = {"role": "system", "content": "  You are terse.\n"}

CONVERSATIONS = {
    "one question": {"messages": [user("Hello, wörld! <b>'\"&</b> 😀")],
                     "add_generation_prompt": True},
    "system": {"messages": [SYSTEM, user("Hi")], "add_generation_prompt": True},
    "many turns": {"messages": [SYSTEM, user("1+1?"), assistant(" 2\n"), user("2+2?"),
                                assistant("4"), user("\n3+3? ")], "add_generation_prompt": True},
    "tools": {"messages": [SYSTEM, user("Weather in Zürich?")], "tools": TOOLS,
              "add_generation_prompt": True},
    "tool result": {"messages": [user("Weather?"), assistant("", tool_calls=[
        call("get_weather", {"city": "Zürich", "days": 2, "deep": {"a": [1, None, True, 1.5]}})]),
        result('{"temp": 21.5}')], "tools": TOOLS, "add_generation_prompt": True},
    "parallel calls": {"messages": [SYSTEM, user("Both?"), assistant(None, tool_calls=[
        call("get_weather", {"city": "Bern"}, "call00001"),
        call("search", {"query": "a'b\"c", "filters": []}, "call00002")]),
        result("21", "get_weather", "call00001"), result("none", "search", "call00002"),
        assistant("It is 21."), user("Thanks")], "tools": TOOLS, "add_generation_prompt": True},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, user("Hi")],
                  "add_generation_prompt": True},
    "content parts": {"messages": [
        {"role": "system", "content": [{"type": "text", "text": "Sys"}]},
        {"role": "user", "content": [{"type": "text", "text": "What is "},
                                     {"type": "image"},
                                     {"type": "text", "text": "this?"}]}],
        "add_generation_prompt": True},
    "continued assistant": {"messages": [user("Count"), assistant("1, 2,")],
                            "add_generation_prompt": False},
    "reasoning": {"messages": [user("Why?"), assistant("Because.", reasoning_content="Hm.\nSo.",
                                                       thinking="Hm.\nSo."),
                               user("Really?"), assistant("<think>\nHm\n</think>\n\nYes."),
                               user("Sure?")],
                  "add_generation_prompt": True, "enable_thinking": True},
    "no thinking, with documents": {
        "messages": [SYSTEM, user("What does it say?")],
        "documents": [{"title": "One", "text": "First."}, {"title": "Two", "text": "Second."}],
        "add_generation_prompt": True, "enable_thinking": False, "thinking": False,
        "reasoning_effort": "low"},
    "wrong order": {"messages": [user("a"), user("b"), assistant("c"), SYSTEM]},
}


def variables(conversation):
    return {"tools": None, "documents": None, "add_generation_prompt": False,
            "bos_token": "<s>", "eos_token": "</s>", **conversation}
