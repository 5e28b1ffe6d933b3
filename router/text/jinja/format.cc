#include "router/text/jinja/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/escape.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/format_spec.h"
#include "router/text/jinja/printing.h"

namespace chorus::text::jinja {
namespace {

// Reads `text % values` from left to right.
class PercentFormat {
 public:
  PercentFormat(Engine& engine, const MarkedText& text, const Value& values)
      : engine_(engine), text_(text), values_(values) {
    result_.markup = text.markup;
  }

  Value run() {
    const std::string& bytes = text_.bytes;
    while (at_ < bytes.size()) {
      const size_t percent = std::min(bytes.find('%', at_), bytes.size());
      append(result_, text_, at_, percent);
      at_ = percent;
      if (at_ < bytes.size()) conversion();
    }
    const bool all_used = !values_.is(Kind::tuple)
                              ? used_ > 0 || values_.is(Kind::dict) || values_.is(Kind::list)
                              : used_ >= values_.items().size();
    if (!all_used) fail("not all arguments converted during string formatting");
    return engine_.string(std::move(result_));
  }

 private:
  char current() const {
    if (at_ >= text_.bytes.size()) fail("incomplete format");
    return text_.bytes[at_];
  }

  const Value& next_value() {
    if (keyed_) return *keyed_;
    if (!values_.is(Kind::tuple)) {
      if (used_++ > 0) fail("not enough arguments for format string");
      return values_;
    }
    if (used_ >= values_.items().size()) fail("not enough arguments for format string");
    return values_.items()[used_++];
  }

  void key() {
    keyed_ = nullptr;
    if (current() != '(') return;
    const size_t close = text_.bytes.find(')', at_);
    if (close == std::string::npos) fail("incomplete format key");
    if (!values_.is(Kind::dict)) fail("format requires a mapping");
    const std::string name = text_.bytes.substr(at_ + 1, close - at_ - 1);
    keyed_ = values_.dict().find(std::string_view(name));
    if (keyed_ == nullptr) fail(fmt::format("'{}'", name));
    at_ = close + 1;
  }

  void conversion() {
    ++at_;
    key();
    FormatSpec spec;
    spec.align = '>';
    bool zero = false;
    for (; std::string_view("#0- +").find(current()) != std::string_view::npos; ++at_) {
      if (current() == '#') spec.alternate = true;
      if (current() == '0') zero = true;
      if (current() == '-') spec.align = '<';
      if (current() == ' ' && spec.sign != '+') spec.sign = ' ';
      if (current() == '+') spec.sign = '+';
    }
    spec.width = width();
    if (current() == '.') {
      ++at_;
      spec.precision = width();
    }
    while (current() == 'h' || current() == 'l' || current() == 'L') ++at_;
    spec.type = text_.bytes[at_++];
    if (spec.type == '%') return append(result_, "%");
    if (zero && spec.align != '<') {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
    fill(spec);
  }

  int64_t width() {
    if (current() == '*') {
      ++at_;
      const Value& given = next_value();
      if (!given.is_integral()) fail("* wants int");
      return std::clamp<int64_t>(given.as_integer(), 0, 100'000);
    }
    int64_t value = 0;
    for (; current() >= '0' && current() <= '9'; ++at_) {
      value = value * 10 + (current() - '0');
      if (value > 100'000) fail("a format's width or precision is too large");
    }
    return value;
  }

  void fill(FormatSpec spec) {
    static constexpr std::string_view kTexts = "sra";
    static constexpr std::string_view kIntegers = "diuxXo";
    static constexpr std::string_view kFloats = "eEfFgG";
    const Value& value = next_value();
    const char type = spec.type;
    if (kTexts.find(type) != std::string_view::npos) return text(value, spec);
    if (type == 'c') return character(value, spec);
    if (kIntegers.find(type) != std::string_view::npos) {
      if (value.is(Kind::undefined)) fail_undefined(value);
      if (!value.is_number()) {
        fail(fmt::format("%{} format: a real number is required, not {}", type, type_name(value)));
      }
      if (type == 'i' || type == 'u') spec.type = 'd';
      return integer(value, spec);
    }
    if (kFloats.find(type) == std::string_view::npos) {
      fail(fmt::format("unsupported format character '{}'", type));
    }
    if (value.is(Kind::undefined)) fail_undefined(value);
    if (!value.is_number()) fail(fmt::format("must be real number, not {}", type_name(value)));
    append(result_, format_number(Value::real(value.as_real()), spec));
  }

  void text(const Value& value, FormatSpec spec) {
    MarkedText part = spec.type == 's' ? engine_.text_of(value) : repr(value);
    if (value.is(Kind::string)) part.markup = value.text().markup && spec.type == 's';
    if (result_.markup) part = escaped(part);
    spec.type = 's';
    spec.fill.assign(1, ' ');
    spec.sign = '-';
    if (spec.align == '=') spec.align = '>';
    append(result_, format_text(part, spec));
  }

  void character(const Value& value, FormatSpec spec) {
    if (value.is(Kind::string)) {
      if (code_point_count(value.bytes()) != 1) fail("%c requires int or char");
      return text(value, spec);
    }
    if (!value.is_integral()) fail("%c requires int or char");
    append(result_, format_number(value, spec));
  }

  void integer(const Value& value, FormatSpec spec) {
    if (value.is(Kind::real) && spec.type != 'd') {
      fail(fmt::format("%{} format: an integer is required, not float", spec.type));
    }
    const Wide number = value.is(Kind::real) ? wide_of(value.as_real()) : value.as_wide();
    const int64_t digits = std::exchange(spec.precision, -1);
    if (digits > 0) {
      FormatSpec inner = spec;
      inner.width = digits + (number < 0 || spec.sign != '-' ? 1 : 0);
      inner.fill.assign(1, '0');
      inner.align = '=';
      spec.type = 's';
      spec.sign = '-';
      if (spec.align == '=') spec.align = '>';
      spec.fill.assign(1, ' ');
      return append(result_, format_text(plain(format_number(Value::wide(number), inner)), spec));
    }
    append(result_, format_number(Value::wide(number), spec));
  }

  Engine& engine_;
  const MarkedText& text_;
  const Value& values_;
  MarkedText result_;
  size_t at_ = 0;
  size_t used_ = 0;
  const Value* keyed_ = nullptr;
};

// Reads `text.format(...)`; fields may nest one level inside a specification.
class BraceFormat {
 public:
  BraceFormat(Engine& engine, const Arguments& arguments)
      : engine_(engine), arguments_(arguments) {}

  MarkedText run(const MarkedText& text, int depth) {
    if (depth > 2) fail("Max string recursion exceeded");
    const std::string& bytes = text.bytes;
    MarkedText result;
    for (size_t at = 0; at < bytes.size();) {
      const size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
      append(result, text, at, brace);
      at = brace;
      if (at == bytes.size()) break;
      if (at + 1 < bytes.size() && bytes[at + 1] == bytes[at]) {
        append(result, text, at, at + 1);
        at += 2;
        continue;
      }
      if (bytes[at] == '}') fail("Single '}' encountered in format string");
      const size_t end = field_end(bytes, at);
      append(result, field(slice(text, at + 1, end), depth));
      at = end + 1;
    }
    return result;
  }

 private:
  static size_t field_end(const std::string& bytes, size_t at) {
    int open = 0;
    for (; at < bytes.size(); ++at) {
      if (bytes[at] == '{') ++open;
      if (bytes[at] == '}' && --open == 0) return at;
    }
    fail("expected '}' before end of string");
  }

  MarkedText field(const MarkedText& text, int depth) {
    const std::string& bytes = text.bytes;
    size_t end = std::min(bytes.find_first_of(":!"), bytes.size());
    const Value value = lookup(std::string_view(bytes).substr(0, end));
    char conversion = '\0';
    if (end < bytes.size() && bytes[end] == '!') {
      if (end + 1 >= bytes.size()) fail("unmatched '{' in format spec");
      conversion = bytes[end + 1];
      end += 2;
    }
    FormatSpec spec;
    if (end < bytes.size()) {
      if (bytes[end] != ':') fail("expected ':' after conversion specifier");
      spec = parse_format_spec(run(slice(text, end + 1, bytes.size()), depth + 1).bytes);
    }
    return converted(value, conversion, spec, end + 1 < bytes.size());
  }

  MarkedText converted(const Value& value, char conversion, const FormatSpec& spec, bool has_spec) {
    if (conversion == 'r') return format_text(repr(value), spec);
    if (conversion == 's') return format_text(engine_.text_of(value), spec);
    if (conversion != '\0') fail("Unknown conversion specifier");
    const bool plain_boolean = value.is(Kind::boolean) && !has_spec;
    if (value.is_number() && !plain_boolean) return plain(format_number(value, spec));
    const bool has_format = value.is(Kind::string) || value.is(Kind::boolean);
    if (!has_format && has_spec && (spec.width > 0 || spec.type != '\0' || spec.precision >= 0)) {
      fail(fmt::format("unsupported format string passed to {}.__format__", type_name(value)));
    }
    return format_text(engine_.text_of(value), spec);
  }

  // "0", "name", "a.b", "a[0]", or nothing for the next one.
  Value lookup(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, end));
    for (path.remove_prefix(end); !path.empty();) {
      if (path[0] == '.') {
        const size_t stop = std::min(path.find_first_of(".[", 1), path.size());
        if (stop == 1) fail("Empty attribute in format string");
        value = engine_.attribute(value, std::string(path.substr(1, stop - 1)));
        path.remove_prefix(stop);
      } else {
        const size_t close = path.find(']');
        if (path[0] != '[' || close == std::string_view::npos) fail("Missing ']' in format string");
        const std::string_view key = path.substr(1, close - 1);
        value = engine_.item(value, index(key).value_or(Value::string(key)));
        path.remove_prefix(close + 1);
      }
    }
    return value;
  }

  static std::optional<Value> index(std::string_view digits) {
    if (digits.empty() || digits.size() > 9) return std::nullopt;
    int64_t value = 0;
    for (const char c : digits) {
      if (c < '0' || c > '9') return std::nullopt;
      value = value * 10 + (c - '0');
    }
    return Value::integer(value);
  }

  Value first(std::string_view name) {
    const auto number = index(name);
    if (name.empty() || number) {
      const size_t at = number ? static_cast<size_t>(number->as_integer()) : automatic_++;
      if (at >= arguments_.positional.size()) {
        fail("Replacement index out of range for positional args tuple");
      }
      return arguments_.positional[at];
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    fail(fmt::format("'{}'", name));
  }

  Engine& engine_;
  const Arguments& arguments_;
  size_t automatic_ = 0;
};

}  // namespace

Value format_percent(Engine& engine, const Value& text, const Value& values) {
  return PercentFormat(engine, text.text(), values).run();
}

Value format_braces(Engine& engine, const Value& text, const Arguments& arguments) {
  MarkedText result = BraceFormat(engine, arguments).run(text.text(), 0);
  result.markup = text.text().markup;
  return engine.string(std::move(result));
}

}  // namespace chorus::text::jinja
