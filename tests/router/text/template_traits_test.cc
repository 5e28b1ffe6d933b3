#include "router/text/template_traits.h"

#include <catch2/catch.hpp>

namespace chorus::text {
namespace {

TemplateTraits traits(std::string_view source) {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) FAIL(parsed.error().message);
  return find_traits(*parsed, {});
}

std::string for_each(const std::string& body) {
  return "{% for m in messages %}" + body + "{% endfor %}";
}

TEST_CASE("a printed list is not read") {
  for (const char* body : {"{{ m.content }}", "{{ m.content|tojson }}", "{{ m.content|string }}"}) {
    CHECK(traits(for_each(body)).content_of("user").text);
    CHECK_FALSE(traits(for_each(body)).content_of("user").parts);
  }
  CHECK_FALSE(traits(for_each("{{ '' + m.content }}")).content_of("user").parts);
}

TEST_CASE("roles may differ in what is read") {
  const TemplateTraits found =
      traits(for_each("{% if m.role == 'user' and m.content is not string %}{{ m.content[0].text }}"
                      "{% else %}{{ m.content|trim }}{% endif %}"));
  CHECK(found.content_of("user").parts);
  CHECK_FALSE(found.content_of("system").parts);
  CHECK_FALSE(found.content_of("assistant").parts);
}

TEST_CASE("a role that the template refuses counts as one of text") {
  const TemplateTraits found = traits(
      for_each("{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}"));
  CHECK(found.content_of("system").text);
  CHECK(found.content_of("user").text);
}

TEST_CASE("a message of calls gets the content that the template asks for") {
  using NoContent = TemplateTraits::NoContent;
  const std::string calls =
      "{% for c in m.tool_calls %}{{ c.function.arguments|tojson }}{% endfor %}";
  const auto needed = [&](const std::string& body) {
    const TemplateTraits found = traits(for_each(body));
    CHECK(found.tool_calls);
    return found.no_content;
  };
  CHECK(needed("{{ m.content }}" + calls) == NoContent::absent);
  CHECK(needed("{% if m.content is none %}" + calls + "{% else %}{{ m.content }}{% endif %}") ==
        NoContent::null);
  CHECK(needed("{{ m.content + '' }}" + calls) == NoContent::empty);
}

TEST_CASE("arguments are text where they are joined to text") {
  CHECK(traits(for_each("{% for c in m.tool_calls %}{{ '' + c.function.arguments }}{% endfor %}"))
            .argument_text);
  CHECK_FALSE(traits(for_each("{% for c in m.tool_calls %}"
                              "{{ c.function.arguments if c.function.arguments is string else "
                              "c.function.arguments|tojson }}{% endfor %}"))
                  .argument_text);
}

TEST_CASE("tools are read where their names come out") {
  CHECK(traits("{% for t in tools or [] %}{{ t.function.name }}{% endfor %}").tools);
  CHECK(traits("{% if messages[0].role == 'system' %}{{ tools|tojson }}{% endif %}").tools);
  CHECK_FALSE(traits(for_each("{{ m.content }}")).tools);
}

}  // namespace
}  // namespace chorus::text
