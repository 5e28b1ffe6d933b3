// Filters on text. Whatever they are given is made text first, as Python's soft_str does.
#include <fmt/format.h>

#include "router/text/jinja/case.h"
#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/escape.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/format.h"
#include "router/text/jinja/printing.h"
#include "router/text/jinja/tables.h"
#include "router/text/jinja/text_operations.h"

namespace chorus::text::jinja {
namespace {

const MarkedText kEmpty;

// str(value), but Markup stays Markup.
MarkedText soft(Engine& engine, const Value& value) {
  return value.is(Kind::string) ? value.text() : engine.text_of(value);
}

template <Casing casing>
Value cased(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "case", {});
  const MarkedText text = soft(engine, input);
  engine.charge(static_cast<int64_t>(text.bytes.size() / 8));
  return engine.string(with_case(text, casing));
}

// Unlike str.title(), words begin only after white space, - ( { [ and <.
Value title(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "title", {});
  const MarkedText text = soft(engine, input);
  engine.charge(static_cast<int64_t>(text.bytes.size() / 8));
  MarkedText result;
  bool begins = true;
  size_t word = 0;
  const auto flush = [&](size_t end) {
    append(result, with_case(slice(text, word, end), Casing::lower));
    word = end;
  };
  for (size_t at = 0; at < text.bytes.size();) {
    const size_t begin = at;
    const char32_t c = decode(text.bytes, at);
    const bool separates = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    if (begins && !separates) {
      flush(begin);
      append(result, with_case(slice(text, begin, at), Casing::upper));
      word = at;
    }
    begins = separates;
  }
  flush(text.bytes.size());
  return engine.string(std::move(result));
}

Value trim(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "trim", {"chars"});
  const bool given = p.has(0) && !p[0].is(Kind::none);
  const std::string* characters = given ? &p.text(0, kEmpty).bytes : nullptr;
  return engine.string(strip(soft(engine, input), characters, Sides::both));
}

Value to_string(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "string", {});
  return engine.string(soft(engine, input));
}

Value safe(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "safe", {});
  MarkedText text = engine.text_of(input);
  text.markup = true;
  return engine.string(std::move(text));
}

Value escape(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "escape", {});
  return engine.string(escaped(soft(engine, input)));
}

Value force_escape(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "forceescape", {});
  MarkedText text = engine.text_of(input);
  text.markup = false;
  return engine.string(escaped(text));
}

Value replace_text(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "replace", {"old", "new", "count"}, 2);
  const bool counted = p.has(2) && !p[2].is(Kind::none);
  const MarkedText text = engine.text_of(input);
  return engine.string(replace(engine, text, engine.text_of(p[0]).bytes, engine.text_of(p[1]),
                               counted ? p.integer(2, -1) : -1));
}

Value indent(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "indent", {"width", "first", "blank"});
  if (input.is(Kind::undefined)) fail_undefined(input);
  if (!input.is(Kind::string)) {
    fail(fmt::format("unsupported operand type(s) for +=: '{}' and 'str'", type_name(input)));
  }
  MarkedText indention;
  if (p.has(0) && p[0].is(Kind::string)) {
    indention = p[0].text();
  } else {
    const int64_t width = std::min<int64_t>(std::max<int64_t>(p.integer(0, 4), 0), 100'000);
    indention = plain(std::string(static_cast<size_t>(width), ' '));
  }
  MarkedText text = input.text();
  append(text, "\n");
  const std::vector<MarkedText> lines = split_lines(engine, text, false);
  const bool blank = p.flag(2, false);
  MarkedText result;
  result.markup = text.markup;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) append(result, "\n");
    const bool indented = i == 0 ? p.flag(1, false) : blank || !lines[i].bytes.empty();
    if (indented) append(result, indention);
    append(result, lines[i]);
    if (result.bytes.size() > kOutputMax) fail("a string in the template grows too long");
  }
  return engine.string(std::move(result));
}

Value truncate(Engine& engine, const Value& input, const Arguments& arguments) {
  static const MarkedText dots = plain("...");
  const Parameters p(arguments, "truncate", {"length", "killwords", "end", "leeway"});
  const Value length = Value::integer(p.integer(0, 255));
  const MarkedText end = p.text(2, dots);
  const bool given = p.has(3) && !p[3].is(Kind::none);
  const int64_t leeway = given ? p.integer(3, 5) : 5;
  const auto end_size = static_cast<int64_t>(code_point_count(end.bytes));
  if (length.as_integer() < end_size) fail(fmt::format("expected length >= {}", end_size));
  if (leeway < 0) fail("expected leeway >= 0");
  if (input.is(Kind::undefined)) return input;
  if (!input.is(Kind::string)) {
    fail(fmt::format("object of type '{}' has no len()", type_name(input)));
  }
  const MarkedText text = input.text();
  const auto size = static_cast<int64_t>(code_point_count(text.bytes));
  if (size - leeway <= length.as_integer()) return input;
  const auto keep = static_cast<size_t>(length.as_integer() - end_size);
  MarkedText result = slice(text, 0, byte_offset(text.bytes, keep));
  if (!p.flag(1, false)) {
    const size_t space = result.bytes.rfind(' ');
    if (space != std::string::npos) result = slice(result, 0, space);
  }
  append(result, end);
  return engine.string(std::move(result));
}

Value word_count(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "wordcount", {});
  const MarkedText text = soft(engine, input);
  engine.charge(static_cast<int64_t>(text.bytes.size() / 16));
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.bytes.size();) {
    const char32_t c = decode(text.bytes, at);
    const bool word = c == '_' || is_alphanumeric(c);
    if (word && !inside) ++words;
    inside = word;
  }
  return Value::integer(words);
}

Value center(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "center", {"width"});
  return engine.string(
      padded(engine, soft(engine, input), p.integer(0, 80), plain(" "), Sides::both));
}

Value format(Engine& engine, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    fail("can't handle positional and keyword arguments at the same time");
  }
  const Value text = Value::string(soft(engine, input));
  if (arguments.named.empty())
    return format_percent(engine, text, Value::tuple(arguments.positional));
  auto values = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.named) values->set(Value::string(name), value);
  return format_percent(engine, text, Value::dict(std::move(values)));
}

void quote(const MarkedText& text, bool query, MarkedText& out) {
  const std::string_view kept = query ? "_.-~" : "_.-~/";
  std::string bytes;
  for (const char c : text.bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && (std::isalnum(byte) || kept.find(c) != std::string_view::npos)) {
      bytes.push_back(c);
    } else if (query && c == ' ') {
      bytes.push_back('+');
    } else {
      bytes += fmt::format("%{:02X}", byte);
    }
  }
  append(out, marked(std::move(bytes), origin_of(text)));
}

Value url_encode(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "urlencode", {});
  MarkedText out;
  if (input.is(Kind::string) || !iterable(input)) {
    quote(engine.text_of(input), false, out);
    return engine.string(std::move(out));
  }
  Value pairs = input;
  if (input.is(Kind::dict)) pairs = engine.call_filter("items", input, Arguments());
  for (const Value& pair : engine.collect(pairs)) {
    const std::vector<Value> parts = engine.collect(pair);
    if (parts.size() != 2) fail("urlencode wants pairs");
    if (!out.bytes.empty()) append(out, "&");
    quote(engine.text_of(parts[0]), true, out);
    append(out, "=");
    quote(engine.text_of(parts[1]), true, out);
  }
  return engine.string(std::move(out));
}

Value xml_attributes(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "xmlattr", {"autospace"});
  if (!input.is(Kind::dict)) fail("xmlattr wants a mapping");
  MarkedText out;
  for (const auto& [key, value] : input.dict().items) {
    if (value.is(Kind::none) || value.is(Kind::undefined)) continue;
    const MarkedText name = engine.text_of(key);
    if (name.bytes.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      fail(fmt::format("Invalid character in attribute name: {}", repr(key).bytes));
    }
    if (!out.bytes.empty() || p.flag(0, true)) append(out, " ");
    append(out, escaped(name));
    append(out, "=\"");
    append(out, escaped(soft(engine, value)));
    append(out, "\"");
  }
  return engine.string(std::move(out));
}

constexpr BuiltinRow kFilters[] = {
    {"upper", cased<Casing::upper>},
    {"lower", cased<Casing::lower>},
    {"capitalize", cased<Casing::capitalize>},
    {"title", title},
    {"trim", trim},
    {"string", to_string},
    {"safe", safe},
    {"escape", escape},
    {"e", escape},
    {"forceescape", force_escape},
    {"replace", replace_text},
    {"indent", indent},
    {"truncate", truncate},
    {"wordcount", word_count},
    {"center", center},
    {"format", format},
    {"urlencode", url_encode},
    {"xmlattr", xml_attributes},
};

}  // namespace

std::span<const BuiltinRow> text_filters() {
  return kFilters;
}

}  // namespace chorus::text::jinja
