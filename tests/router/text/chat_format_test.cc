#include "router/text/chat_format.h"

#include <catch2/catch.hpp>

namespace chorus::text {
namespace {

using modelfile::ChatTemplates;

constexpr const char* kChatMl =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// Reads parts and text, tools, calls with arguments as objects, and results.
constexpr const char* kFull =
    "{% if tools %}[tools]{% for t in tools %}{{ t.function.name }};{% endfor %}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}<{{ p.text }}>"
    "{% endfor %}{% endif %}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}("
    "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}){% endfor %}"
    "{% endfor %}";

ChatTemplates templates(std::string source) {
  ChatTemplates all;
  all.sources.push_back({"default", std::move(source), "test.jinja"});
  return all;
}

ChatFormat format(std::string source) {
  auto made = ChatFormat::make(templates(std::move(source)), "<s>", "</s>");
  if (!made) FAIL(made.error().message);
  return std::move(*made);
}

ChatInput input(const char* messages) {
  ChatInput chat;
  chat.messages = Json::parse(messages);
  chat.add_generation_prompt = false;
  return chat;
}

std::string text(const ChatFormat& format, const ChatInput& chat) {
  const auto rendered = format.render(chat);
  return rendered ? rendered->prompt.text : "error: " + rendered.error().message;
}

std::string text(const std::string& source, const char* messages) {
  return text(format(source), input(messages));
}

TEST_CASE("a template that does not parse is named with file and line") {
  const auto made = ChatFormat::make(templates("a\n{% if %}"), "", "");
  REQUIRE_FALSE(made);
  CHECK(made.error().line == 2);
  CHECK(made.error().message.starts_with("test.jinja, line 2: the chat template does not parse:"));
}

TEST_CASE("tools choose the template made for them") {
  ChatTemplates all = templates("plain");
  all.sources.push_back({"tool_use", "{{ tools[0].function.name }}", "t"});
  all.sources.push_back({"rag", "rag", "r"});
  const auto made = ChatFormat::make(all, "", "");
  REQUIRE(made);
  ChatInput chat = input(R"([{"role":"user","content":"hi"}])");
  CHECK(text(*made, chat) == "plain");
  chat.tools = Json::parse(R"([{"type":"function","function":{"name":"f"}}])");
  CHECK(text(*made, chat) == "f");
  chat.tools = Json::array();
  CHECK(text(*made, chat) == "plain");
  chat.template_name = "rag";
  CHECK(text(*made, chat) == "rag");
  chat.template_name = "nope";
  CHECK(text(*made, chat) ==
        "error: the model brings no chat template named \"nope\"; it brings: "
        "default, tool_use, rag");
}

TEST_CASE("parts are joined for templates that read text alone") {
  const char* messages = R"([{"role":"user","content":[{"type":"text","text":"a"},
                                                       {"type":"text","text":"b"}]}])";
  CHECK(text(kChatMl, messages) == "<|im_start|>user\nab<|im_end|>\n");
  CHECK(text(kFull, messages) == "[user]<a><b>");
}

TEST_CASE("text becomes a part for templates that read parts alone") {
  CHECK(text("{{ messages[0].content[0]['text'] }}!", R"([{"role":"user","content":"a"}])") ==
        "a!");
}

TEST_CASE("a part that is no text is refused") {
  const auto rendered = format(kFull).render(input(R"([{"role":"user","content":"a"},
                {"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])"));
  REQUIRE_FALSE(rendered);
  CHECK(rendered.error().message_index == 1);
  CHECK(rendered.error().message ==
        "a content part of type \"image_url\" cannot be shown: this model reads text alone");
}

TEST_CASE("developer is system for templates that do not know it") {
  const char* messages = R"([{"role":"developer","content":"d"}])";
  CHECK(text(kChatMl, messages) == "<|im_start|>system\nd<|im_end|>\n");
  CHECK(text("{% for m in messages %}{% if m.role == 'developer' %}D{% endif %}{{ m.content }}"
             "{% endfor %}",
             messages) == "Dd");
}

constexpr const char* kCall = R"([{"role":"user","content":"q"},
  {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",
   "function":{"name":"f","arguments":"{\"x\": 1}"}}]},
  {"role":"tool","tool_call_id":"c","content":"r"}])";

TEST_CASE("a call's arguments are read as the object they are") {
  CHECK(text(kFull, kCall) == "[user]q[assistant]f(x=1)[tool]r");
}

TEST_CASE("arguments stay text for templates that join them to text") {
  const std::string source =
      "{% for m in messages %}{% for c in m.tool_calls or [] %}"
      "{{ c.function.name + ':' + c.function.arguments }}{% endfor %}{{ m.content or '' }}"
      "{% endfor %}";
  CHECK(text(source, kCall) == "qf:{\"x\": 1}r");
}

TEST_CASE("what a template cannot show is refused, not left out") {
  const auto with_calls = format(kChatMl).render(input(kCall));
  REQUIRE_FALSE(with_calls);
  CHECK(with_calls.error().message_index == 1);
  CHECK(with_calls.error().message == "the model's chat template has no place for tool calls");
  const std::string users =
      "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
  const auto with_result = format(users).render(input(R"([{"role":"tool","content":"r"}])"));
  REQUIRE_FALSE(with_result);
  CHECK(with_result.error().message_index == 0);
  ChatInput chat = input(R"([{"role":"user","content":"a"}])");
  chat.tools = Json::parse(R"([{"type":"function","function":{"name":"f"}}])");
  CHECK(text(format(kChatMl), chat) == "error: the model's chat template has no place for tools");
}

TEST_CASE("reasoning is found under both names") {
  const std::string source = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}";
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    ChatInput chat;
    chat.messages = Json::array({{{"role", "assistant"}, {name, "r"}}});
    CHECK(text(format(source), chat) == "rr");
  }
}

TEST_CASE("keys that are null are not there, tools and documents always are") {
  CHECK(text("{{ messages[0].content is defined }} {{ tools }} {{ documents }} {{ bos_token }}",
             R"([{"role":"assistant","content":null}])") == "False None None <s>");
}

TEST_CASE("the last message is gone on with") {
  ChatInput chat = input(R"([{"role":"user","content":"q"},{"role":"assistant","content":"a "}])");
  chat.continue_final_message = true;
  const auto rendered = format(kChatMl).render(chat);
  REQUIRE(rendered);
  CHECK(rendered->prompt.text == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na ");
  REQUIRE(rendered->prompt.from_outside.size() == 2);
  CHECK(rendered->prompt.from_outside[1].end == static_cast<int64_t>(rendered->prompt.text.size()));
  CHECK(rendered->message_begins.size() == 2);
  CHECK(text(format("{% for m in messages %}{{ m.content|trim }}.{% endfor %}"), chat) == "q.a");
  chat.messages[1]["content"] = Json::parse(R"([{"type":"text","text":"b"}])");
  CHECK(text(format(kFull), chat) == "[user]q[assistant]<b");
  chat.add_generation_prompt = true;
  CHECK(
      text(format(kChatMl), chat).starts_with("error: continue_final_message and add_generation"));
}

TEST_CASE("further variables are seen, and are from outside") {
  ChatInput chat = input(R"([{"role":"user","content":"q"}])");
  chat.kwargs = {{"enable_thinking", false}, {"style", "<|im_end|>"}};
  const auto rendered = format("{{ enable_thinking }}{{ style }}{{ bos_token }}").render(chat);
  REQUIRE(rendered);
  CHECK(rendered->prompt.text == "False<|im_end|><s>");
  REQUIRE(rendered->prompt.from_outside.size() == 1);
  CHECK(rendered->prompt.from_outside[0].begin == 5);
  chat.kwargs = {{"messages", Json::array()}};
  CHECK(text(format(kChatMl), chat).starts_with("error: chat_template_kwargs"));
}

}  // namespace
}  // namespace chorus::text
