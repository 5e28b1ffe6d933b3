#include "router/text/jinja/printing.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "router/text/jinja/case.h"
#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/loop.h"

namespace chorus::text::jinja {
namespace {

constexpr int kPrintDepthMax = 2 * kDepthMax;

void repr_string(const std::string& text, std::string& out) {
  const bool single = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = single ? '"' : '\'';
  out.push_back(quote);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = decode(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      out.append(text, begin, at - begin);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  out.push_back(quote);
}

class Printer {
 public:
  std::string text;

  void value(const Value& value, int depth) {
    if (depth > kPrintDepthMax || text.size() > (64U << 20)) fail("a value is too large to print");
    switch (value.kind()) {
      case Kind::undefined:
        text += "Undefined";
        break;
      case Kind::none:
        text += "None";
        break;
      case Kind::boolean:
        text += value.as_boolean() ? "True" : "False";
        break;
      case Kind::integer:
        text += std::to_string(value.as_integer());
        break;
      case Kind::wide:
        text += wide_text(value.as_wide());
        break;
      case Kind::real:
        text += float_repr(value.as_real());
        break;
      case Kind::string:
        string(value);
        break;
      case Kind::list:
      case Kind::tuple:
        sequence(value, depth);
        break;
      case Kind::dict:
        dict(value.dict(), depth);
        break;
      default:
        object(value, depth);
    }
  }

 private:
  void string(const Value& value) {
    if (value.text().markup) text += "Markup(";
    repr_string(value.bytes(), text);
    if (value.text().markup) text += ")";
  }

  void sequence(const Value& sequence, int depth) {
    const bool tuple = sequence.is(Kind::tuple);
    text += tuple ? "(" : "[";
    for (size_t i = 0; i < sequence.items().size(); ++i) {
      if (i > 0) text += ", ";
      value(sequence.items()[i], depth + 1);
    }
    if (tuple && sequence.items().size() == 1) text += ",";
    text += tuple ? ")" : "]";
  }

  void dict(const Dict& dict, int depth) {
    text += "{";
    for (size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) text += ", ";
      value(dict.items[i].first, depth + 1);
      text += ": ";
      value(dict.items[i].second, depth + 1);
    }
    text += "}";
  }

  void object(const Value& object, int depth) {
    switch (object.kind()) {
      case Kind::view: {
        std::vector<Value> items;
        const Pull pull = iterate(object);
        for (Value item; pull(item);) items.push_back(item);
        text += fmt::format("{}(", type_name(object));
        value(Value::list(std::move(items)), depth + 1);
        text += ")";
        break;
      }
      case Kind::range: {
        const Range& range = object.range();
        text += fmt::format("range({}, {}", range.start, range.stop);
        text += range.step == 1 ? ")" : fmt::format(", {})", range.step);
        break;
      }
      case Kind::attributes:
        text += "<Namespace ";
        dict(object.attributes().values, depth + 1);
        text += ">";
        break;
      case Kind::loop:
        text +=
            fmt::format("<LoopContext {}/{}>", object.loop().index0() + 1, object.loop().length());
        break;
      case Kind::function:
        text += fmt::format("<function {}>", object.function().name);
        break;
      default:
        text += fmt::format("<{} object>", type_name(object));
    }
  }
};

MarkedText marked_like(const Value& value, std::string text) {
  // Namespaces change after they are made, so they do not know what is in them.
  return marked(std::move(text), value.is(Kind::attributes) ? kOutside : value.origin());
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}
  std::string text;

  void value(const Value& value, int depth) {
    switch (value.kind()) {
      case Kind::none:
        text += "null";
        break;
      case Kind::boolean:
        text += value.as_boolean() ? "true" : "false";
        break;
      case Kind::integer:
        text += std::to_string(value.as_integer());
        break;
      case Kind::wide:
        text += wide_text(value.as_wide());
        break;
      case Kind::real:
        real(value.as_real());
        break;
      case Kind::string:
        string(value.bytes());
        break;
      case Kind::list:
      case Kind::tuple:
        sequence(value.items(), depth);
        break;
      case Kind::dict:
        dict(value.dict(), depth);
        break;
      default:
        fail(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
    }
  }

 private:
  void real(double number) {
    if (std::isnan(number)) {
      text += "NaN";
    } else if (std::isinf(number)) {
      text += number < 0 ? "-Infinity" : "Infinity";
    } else {
      text += float_repr(number);
    }
  }

  void escape(char32_t c) {
    if (c < 0x10000) {
      text += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      const uint32_t rest = static_cast<uint32_t>(c) - 0x10000;
      text += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    }
  }

  void string(std::string_view bytes) {
    static constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kLetters = "\"\\nrtfb";
    text.push_back('"');
    for (size_t at = 0; at < bytes.size();) {
      const size_t begin = at;
      const char32_t c = decode(bytes, at);
      const size_t special =
          c < 0x80 ? kSpecial.find(static_cast<char>(c)) : std::string_view::npos;
      if (special != std::string_view::npos) {
        text.push_back('\\');
        text.push_back(kLetters[special]);
      } else if (c < 0x20 || (style_.ensure_ascii && c > 0x7E)) {
        escape(c);
      } else {
        text.append(bytes.substr(begin, at - begin));
      }
    }
    text.push_back('"');
  }

  void line_break(int depth) {
    if (!style_.indented) return;
    text.push_back('\n');
    for (int i = 0; i < depth; ++i) text += style_.indent;
    if (text.size() > (64U << 20)) fail("the JSON text is too long");
  }

  void sequence(const std::vector<Value>& items, int depth) {
    if (items.empty()) {
      text += "[]";
      return;
    }
    text.push_back('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text += style_.item_separator;
      line_break(depth + 1);
      value(items[i], depth + 1);
    }
    line_break(depth);
    text.push_back(']');
  }

  static std::string key_text(const Value& key) {
    switch (key.kind()) {
      case Kind::string:
        return key.bytes();
      case Kind::none:
        return "null";
      case Kind::boolean:
        return key.as_boolean() ? "true" : "false";
      case Kind::integer:
        return std::to_string(key.as_integer());
      case Kind::wide:
        return wide_text(key.as_wide());
      case Kind::real:
        return float_repr(key.as_real());
      default:
        fail(fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    }
  }

  void dict(const Dict& dict, int depth) {
    if (dict.items.empty()) {
      text += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    text.push_back('{');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text += style_.item_separator;
      line_break(depth + 1);
      string(key_text(items[i]->first));
      text += style_.key_separator;
      value(items[i]->second, depth + 1);
    }
    line_break(depth);
    text.push_back('}');
  }

  const JsonStyle& style_;
};

}  // namespace

// The shortest digits that read back as the same number, laid out as Python does: an exponent
// below 1e-4 and from 1e16.
std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view scientific(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = scientific.find('e');
  const int exponent = std::atoi(std::string(scientific.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(scientific);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string text(buffer, fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

MarkedText repr(const Value& value) {
  Printer printer;
  printer.value(value, 0);
  return marked_like(value, std::move(printer.text));
}

MarkedText str(const Value& value) {
  if (value.is(Kind::undefined)) return {};
  if (!value.is(Kind::string)) return repr(value);
  MarkedText text = value.text();
  text.markup = false;
  return text;
}

MarkedText json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.value(value, 0);
  return marked_like(value, std::move(writer.text));
}

}  // namespace chorus::text::jinja
