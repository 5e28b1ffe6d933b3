#include "router/text/chat_template.h"

#include <catch2/catch.hpp>

namespace chorus::text {
namespace {

Prompt rendered(std::string_view source, const Json& variables = Json::object()) {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) FAIL(parsed.error().message);
  auto prompt = parsed->render(variables, 0);
  if (!prompt) FAIL(prompt.error().message);
  return *prompt;
}

TemplateError failed(std::string_view source, const Json& variables = Json::object()) {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) return parsed.error();
  const auto prompt = parsed->render(variables, 0);
  if (prompt) FAIL("rendered: " << prompt->text.substr(0, 200));
  return prompt.error();
}

// The prompt with its text from outside in brackets.
std::string marked(std::string_view source, const Json& variables) {
  const Prompt prompt = rendered(source, variables);
  std::string text;
  int64_t at = 0;
  for (const ByteRange& range : prompt.from_outside) {
    REQUIRE(range.begin >= at);
    REQUIRE(range.begin < range.end);
    REQUIRE(range.end <= static_cast<int64_t>(prompt.text.size()));
    const auto cut = [&](int64_t begin, int64_t end) {
      return prompt.text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    };
    text += cut(at, range.begin) + "[" + cut(range.begin, range.end) + "]";
    at = range.end;
  }
  return text + prompt.text.substr(static_cast<size_t>(at));
}

Json chat(std::initializer_list<std::string> contents) {
  Json messages = Json::array();
  for (const std::string& content : contents) {
    messages.push_back({{"role", "user"}, {"content", content}});
  }
  return {{"messages", messages}, {"bos_token", "<s>"}};
}

TEST_CASE("text of messages is marked, text of the template and of other variables is not") {
  CHECK(marked("{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}",
               chat({"hi", "yo"})) == "<s><user>[hi]</><user>[yo]</>");
}

TEST_CASE("marks follow text through operations") {
  const auto shows = [](const std::string& expression, const std::string& expected) {
    CAPTURE(expression);
    CHECK(marked("{% set c = messages[0].content %}{{ " + expression + " }}", chat({"ab cd"})) ==
          expected);
  };
  shows("'<' + c + '>'", "<[ab cd]>");
  shows("'<' ~ c ~ '>'", "<[ab cd]>");
  shows("('x' ~ c ~ 'y')[0:3]", "x[ab]");
  shows("(' ' ~ c ~ ' ')|trim", "[ab cd]");
  shows("('x' ~ c).split(' ')|join('-')", "x[ab]-[cd]");
  shows("c.replace(' ', '<s>')", "[ab]<s>[cd]");
  shows("'a b'.replace('b', c)", "a [ab cd]");
  shows("('x' ~ c)|upper", "X[AB CD]");
  shows("('x' ~ c)[::-1]", "[dc ba]x");
  shows("'%s|' % c", "[ab cd]|");
  shows("'{}|{}'.format(1, c)", "1|[ab cd]");
  shows("c|tojson", "[\"ab cd\"]");
  shows("['x', c]", "[['x', 'ab cd']]");
  shows("{'k': c}|tojson", "[{\"k\": \"ab cd\"}]");
  shows("c|length", "5");
  shows("c|indent(2, true)", "  [ab cd]");
  shows("('<' ~ c)|e", "&lt;[ab cd]");
  shows("c.replace('ab ', '\"\"')|e", "&#34;&#34;[cd]");
  shows("[c]|string|e", "[[]&#39;[ab cd]&#39;[]]");
  shows("[[c]]|string|e|replace('&#39;', '')", "[[[ab cd]]]");
  shows("[c, '']|string|e", "[[]&#39;[ab cd]&#39;[, ]&#39;&#39;[]]");
  shows("c[0] ~ c[1]", "[ab]");
  shows("'ab cd'", "ab cd");
  shows("'<' * 2 ~ c * 2", "<<[ab cdab cd]");
  shows("c.partition(' ')[1] ~ '|'", "[ ]|");
  shows("namespace(x=c)", "[<Namespace {'x': 'ab cd'}>]");
  shows("messages[0].items()|list|last|last", "[ab cd]");
}

TEST_CASE("a role that is known may become a part of a control token, any other may not") {
  const std::string source = "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}";
  CHECK(marked(source, chat({"hi"})) == "<|user|>");
  CHECK(marked(source, {{"messages", {{{"role", "x|><|y"}}}}}) == "<|[x|><|y]|>");
}

TEST_CASE("a rendering says where each message begins") {
  const auto parsed = ChatTemplate::parse(
      "{% for m in messages %}{% if m.content != 'no' %}<{{ m.role }}>{{ m.content|upper }}"
      "{% endif %}{% endfor %}{{ messages[0]|tojson }}");
  REQUIRE(parsed);
  const Json messages = chat({"a", "no", "b", ""})["messages"];
  const Variable variable{.name = "messages", .value = &messages, .outside = true};
  const auto rendered = parsed->render(std::span(&variable, 1), 0);
  REQUIRE(rendered);
  CHECK(rendered->message_begins == std::vector<int64_t>{6, -1, 13, -1});
}

TEST_CASE("marks survive macros, set blocks and filter blocks") {
  CHECK(marked("{% macro m(x) %}<{{ x }}>{% endmacro %}{% set b %}{{ m(messages[0].content) }}!"
               "{% endset %}{% filter upper %}{{ b }}{% endfilter %}",
               chat({"hi"})) == "<[HI]>!");
}

TEST_CASE("tools and documents come from outside, keys too") {
  const Json variables = {{"tools", {{{"name", "f"}}}}, {"documents", {{{"t", "x"}}}}};
  CHECK(marked("{{ tools[0]|tojson }} {% for k in documents[0] %}{{ k }}{% endfor %}", variables) ==
        "[{\"name\": \"f\"}] [t]");
}

TEST_CASE("the order of keys is kept") {
  const Json variables = {{"tools", Json::parse(R"([{"z": 1, "a": {"y": 2, "b": 3}}])")}};
  CHECK(rendered("{{ tools|tojson }}", variables).text == R"([{"z": 1, "a": {"y": 2, "b": 3}}])");
}

TEST_CASE("errors name the line") {
  CHECK(failed("a\nb\n{% if %}").line == 3);
  CHECK(failed("a\n\n{{ x.y.z }}").line == 3);
  CHECK(failed("{% macro m() %}\n{{ 1 / 0 }}\n{% endmacro %}\n\n{{ m() }}").line == 2);
  CHECK(failed("a\r\n{# c\n #}\n{{ 'x' + 1 }}").line == 4);
  CHECK(failed("{{ 'a\n\n' }}{{ nope() }}").line == 3);
}

TEST_CASE("errors name the message that was being rendered") {
  const std::string source =
      "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('No.') }}{% endif %}"
      "{% endfor %}{{ 1 / 0 }}";
  const TemplateError error = failed(source, chat({"a", "b", "bad"}));
  CHECK(error.message == "No.");
  CHECK(error.message_index == 2);
  CHECK(failed(source, chat({"a"})).message_index == -1);
  CHECK(failed("{% for m in messages[1:] %}{{ m.content.x.y }}{% endfor %}", chat({"a", "b"}))
            .message_index == 1);
}

TEST_CASE("the time is the caller's, in UTC") {
  const auto parsed = ChatTemplate::parse("{{ strftime_now('%Y-%m-%d %H:%M') }}");
  REQUIRE(parsed);
  CHECK(parsed->render(Json::object(), 1753617845)->text == "2025-07-27 12:04");
}

TEST_CASE("integers have 128 bits, and beyond those they are refused, not rounded") {
  const auto shows = [](const std::string& expression, const std::string& expected) {
    CAPTURE(expression);
    CHECK(rendered("{{ " + expression + " }}").text == expected);
  };
  shows("9223372036854775807 + 1", "9223372036854775808");
  shows("-9223372036854775807 - 2", "-9223372036854775809");
  shows("18446744073709551616 // 3", "6148914691236517205");
  shows("-18446744073709551616 % 7", "5");
  shows("2 ** 100 - 2 ** 100 + 5", "5");
  shows("1e20|int", "100000000000000000000");
  shows("'99999999999999999999'|int + 1", "100000000000000000000");
  shows("2 ** 64 == 18446744073709551616.0", "True");
  shows("{2 ** 64: 'x'}[2 ** 64] ~ ((2 ** 64) is integer)", "xTrue");
  shows("'%d %x' % (2 ** 64, 2 ** 64)", "18446744073709551616 10000000000000000");
  CHECK(rendered("{{ tools|tojson }}", {{"tools", {{{"maximum", UINT64_MAX}}}}}).text ==
        R"([{"maximum": 18446744073709551615}])");
  CHECK_THAT(failed("{{ 2 ** 128 }}").message, Catch::Contains("128 bits"));
  CHECK_THAT(failed("{{ 9" + std::string(40, '9') + " }}").message, Catch::Contains("128 bits"));
}

TEST_CASE("recursive loops call themselves") {
  const Json tree = {
      {"tree", Json::parse(R"([{"n": "a", "c": [{"n": "b", "c": []}]}, {"n": "d", "c": []}])")}};
  CHECK(rendered("{% for i in tree recursive %}<{{ loop.depth }}{{ i.n }}{{ loop(i.c) }}>"
                 "{% endfor %}",
                 tree)
            .text == "<1a<2b>><1d>");
  CHECK_THAT(failed("{% for i in [1] %}{{ loop([2]) }}{% endfor %}").message,
             Catch::Contains("recursive"));
  CHECK_THAT(failed("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}").message,
             Catch::Contains("too deeply"));
}

TEST_CASE("times have no zone, as in Python") {
  CHECK(rendered("{{ strftime_now('%H:%M:%S.%f|%z%Z|%:z|%%z') }}").text == "00:00:00.000000|||%z");
}

TEST_CASE("a filter block has to give text") {
  CHECK_THAT(failed("{% filter length %}a{% endfilter %}").message,
             Catch::Contains("expected str"));
  CHECK(failed("{% filter length %}a{% endfilter %}{{ raise_exception('no') }}").message == "no");
}

TEST_CASE("templates that run away are stopped") {
  const auto stops = [](const std::string& source) {
    CAPTURE(source);
    CHECK_FALSE(failed(source).message.empty());
  };
  stops("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}");
  stops("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  stops("{{ 'x' * 999999999999 }}");
  stops("{{ 'x'.center(999999999999) }}");
  stops("{{ '%999999999d' % 1 }}");
  stops("{{ [1] * 999999999999 }}");
  stops("{{ range(100001)|list }}");
  stops(
      "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
      "{% endfor %}");
  stops(
      "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}"
      "{% endfor %}");
  stops(
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% endfor %}{{ ns.x }}");
  stops("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}");
  stops("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}");
  stops("{% set a = 'a' * 9000000 %}{{ a.rfind('b' ~ a[:90000]) }}");
  stops(
      "{% set ns = namespace(x='a') %}{% for i in range(100000) %}{% set ns.x = ns.x|map('upper') "
      "%}{% endfor %}");
}

TEST_CASE("deep templates are refused, not a stack overflow") {
  const auto repeat = [](const std::string& text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  constexpr int kMany = 100'000;
  CHECK_FALSE(failed("{{ " + repeat("(", kMany)).message.empty());
  CHECK_FALSE(failed("{{ " + repeat("[", kMany)).message.empty());
  CHECK_FALSE(failed("{{ " + repeat("not ", kMany) + "1 }}").message.empty());
  CHECK_FALSE(failed("{{ " + repeat("- ", kMany) + "1 }}").message.empty());
  CHECK_FALSE(failed("{{ x" + repeat(".a", kMany) + " }}").message.empty());
  CHECK_FALSE(failed("{{ x" + repeat("|e", kMany) + " }}").message.empty());
  CHECK_FALSE(failed("{{ 1" + repeat(" if 1 else 1", kMany) + " }}").message.empty());
  CHECK_FALSE(failed(repeat("{% if 1 %}", kMany)).message.empty());
  CHECK_FALSE(failed("{% set " + repeat("(", kMany) + "a = 1 %}").message.empty());
}

TEST_CASE("long sums and concatenations are not deep") {
  std::string sum = "{{ 0";
  for (int i = 0; i < 5000; ++i) sum += " + 1";
  CHECK(rendered(sum + " }}").text == "5000");
}

TEST_CASE("variables nested too deeply are refused") {
  Json deep = 1;
  for (int i = 0; i < 1000; ++i) deep = Json::array({deep});
  CHECK_THAT(failed("{{ x }}", {{"x", deep}}).message, Catch::Contains("nested"));
}

TEST_CASE("state kept in rings is given back") {
  // The leak checker of the sanitizer build looks at what these leave behind.
  CHECK(rendered("{% set ns = namespace() %}{% set ns.x = ns %}"
                 "{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{% set k = m %}"
                 "{% set ns.m = m %}{% set ns.l = loop %}{{ loop.changed(loop) }}{% endfor %}"
                 "{% set x = cycler(ns) %}")
            .text == "True");
}

TEST_CASE("one template renders many times and from several states") {
  const auto parsed = ChatTemplate::parse("{% set n = n + 1 %}{{ n }}");
  REQUIRE(parsed);
  CHECK(parsed->render({{"n", 1}}, 0)->text == "2");
  CHECK(parsed->render({{"n", 5}}, 0)->text == "6");
  CHECK_FALSE(parsed->render(Json::object(), 0));
}

TEST_CASE("a template that is not UTF-8 is refused") {
  CHECK_FALSE(ChatTemplate::parse("a\xff"));
  CHECK_FALSE(ChatTemplate::parse("\xed\xa0\x80"));
}

TEST_CASE("text that is not UTF-8 passes through") {
  CHECK(rendered("{{ x }}{{ x|length }}", {{"x", "a\xff"}}).text ==
        "a\xff"
        "2");
}

}  // namespace
}  // namespace chorus::text
