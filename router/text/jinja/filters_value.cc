// Filters on any value: defaults, numbers, JSON, dicts.
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/printing.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

Value default_value(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "default", {"default_value", "boolean"});
  const bool replaces = input.is(Kind::undefined) || (p.flag(1, false) && !truthy(input));
  if (!replaces) return input;
  return p.has(0) ? p[0] : Value::string("");
}

Value length_of(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "length", {});
  const auto count = length(input);
  if (!count) fail(fmt::format("object of type '{}' has no len()", type_name(input)));
  return Value::integer(*count);
}

Value absolute(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "abs", {});
  if (input.is(Kind::undefined)) fail_undefined(input);
  if (!input.is_number()) fail(fmt::format("bad operand type for abs(): '{}'", type_name(input)));
  if (input.is(Kind::real)) return Value::real(std::fabs(input.as_real()));
  return input.as_wide() < 0 ? unary(Operator::minus, input) : Value::wide(input.as_wide());
}

std::string_view stripped(const std::string& bytes) {
  const size_t begin = strip_left(bytes, nullptr);
  return std::string_view(bytes).substr(begin, strip_right(bytes, begin, nullptr) - begin);
}

// Digits with Python's underscores taken out; nothing where they stand wrongly.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || !std::isalnum(text[i - 1]) ||
               !std::isalnum(text[i + 1])) {
      return std::nullopt;
    }
  }
  return digits;
}

// int(text, base), nothing where Python raises ValueError.
std::optional<Wide> parse_int(const std::string& bytes, int64_t base) {
  std::string_view text = stripped(bytes);
  const bool negative = !text.empty() && text[0] == '-';
  if (negative || (!text.empty() && text[0] == '+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const int64_t named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (named != 0 && (base == 0 || base == named)) {
      base = named;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36) return std::nullopt;
  const auto digits = without_underscores(text);
  if (!digits || digits->empty() || (*digits)[0] == '-') return std::nullopt;
  const auto value = parse_wide(*digits, static_cast<int>(base));
  if (!value) return std::nullopt;
  return negative ? -*value : *value;
}

// float(text), nothing where Python raises ValueError.
std::optional<double> parse_real(const std::string& bytes) {
  std::string_view text = stripped(bytes);
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  const auto digits = without_underscores(text);
  if (!digits || digits->empty() || digits->find('(') != std::string::npos) return std::nullopt;
  double value = 0;
  const char* end = digits->data() + digits->size();
  const auto parsed = std::from_chars(digits->data(), end, value);
  if (parsed.ptr != end || parsed.ec == std::errc::invalid_argument) return std::nullopt;
  return value;
}

std::optional<Wide> truncated(double value) {
  if (std::isnan(value) || std::isinf(value)) return std::nullopt;
  return wide_of(value);
}

Value to_int(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "int", {"default", "base"});
  if (input.is(Kind::undefined)) fail_undefined(input);
  std::optional<Wide> value;
  if (input.is(Kind::string)) {
    value = parse_int(input.bytes(), p.integer(1, 10));
    if (!value) {
      if (const auto real = parse_real(input.bytes())) value = truncated(*real);
    }
  } else if (input.is_whole()) {
    value = input.as_wide();
  } else if (input.is(Kind::real)) {
    value = truncated(input.as_real());
  }
  if (value) return Value::wide(*value);
  return p.has(0) ? p[0] : Value::integer(0);
}

Value to_float(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "float", {"default"});
  if (input.is(Kind::undefined)) fail_undefined(input);
  if (input.is_number()) return Value::real(input.as_real());
  if (input.is(Kind::string)) {
    if (const auto value = parse_real(input.bytes())) return Value::real(*value);
  }
  return p.has(0) ? p[0] : Value::real(0);
}

// Python rounds to the nearest decimal, ties to even, judged on the exact binary value.
double rounded(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision < -300) return std::copysign(0.0, value);
  if (precision >= 0) {
    const std::string text = fmt::format("{:.{}f}", value, static_cast<int>(precision));
    double result = 0;
    std::from_chars(text.data(), text.data() + text.size(), result);
    return result;
  }
  const double unit = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(value / unit) * unit;
}

Value round_number(Engine& engine, const Value& input, const Arguments& arguments) {
  static const MarkedText common = plain("common");
  const Parameters p(arguments, "round", {"precision", "method"});
  const int64_t precision = p.integer(0, 0);
  const std::string& method = p.text(1, common).bytes;
  if (method != "common" && method != "ceil" && method != "floor") {
    fail("method must be common, ceil or floor");
  }
  if (input.is(Kind::undefined)) fail_undefined(input);
  if (!input.is_number()) {
    fail(fmt::format("type {} doesn't define __round__ method", type_name(input)));
  }
  if (method == "common") {
    if (input.is(Kind::real)) return Value::real(rounded(input.as_real(), precision));
    if (precision >= 0) return Value::wide(input.as_wide());
    if (input.is(Kind::wide)) fail(kTooWide);
    if (precision < -18) return Value::integer(0);
    const Value unit = Value::integer(
        static_cast<int64_t>(std::llround(std::pow(10.0, static_cast<double>(-precision)))));
    const int64_t size = unit.as_integer();
    const int64_t rest = arithmetic(engine, Operator::modulo, input, unit).as_integer();
    const int64_t down = input.as_integer() - rest;
    const bool up = rest * 2 > size || (rest * 2 == size && (down / size) % 2 != 0);
    return up ? arithmetic(engine, Operator::add, Value::integer(down), unit)
              : Value::integer(down);
  }
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_real() * unit;
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return Value::real(whole / unit);
}

Value to_json(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = p.flag(0, false);
  style.sort_keys = p.flag(3, false);
  if (p.has(1) && !p[1].is(Kind::none)) {
    style.indented = true;
    style.item_separator.assign(1, ',');
    if (p[1].is(Kind::string)) {
      style.indent = p[1].bytes();
    } else {
      const int64_t width = std::min<int64_t>(std::max<int64_t>(p.integer(1, 0), 0), 1000);
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
  }
  if (p.has(2) && !p[2].is(Kind::none)) {
    const std::vector<Value> pair = engine.collect(p[2]);
    if (pair.size() != 2 || !pair[0].is(Kind::string) || !pair[1].is(Kind::string)) {
      fail("separators must be a pair of strings");
    }
    style.item_separator = pair[0].bytes();
    style.key_separator = pair[1].bytes();
  }
  engine.charge(input.weight());
  return engine.string(json(input, style));
}

Value items_of(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "items", {});
  if (input.is(Kind::undefined)) return Value::generator(iterate(input), input);
  if (!input.is(Kind::dict)) fail("Can only get item pairs from a mapping.");
  auto view = std::make_shared<View>();
  view->dict = std::static_pointer_cast<const Dict>(input.shared());
  view->kind = ViewKind::items;
  view->take_in(input);
  const Value items = Value::of(Kind::view, std::move(view));
  return Value::generator(iterate(items), items);
}

// Python's attribute only, without the fallback to the item.
Value attr(Engine& engine, const Value& input, const Arguments& arguments) {
  static const MarkedText empty;
  const Parameters p(arguments, "attr", {"name"}, 1);
  const std::string& name = p.text(0, empty).bytes;
  if (input.is(Kind::dict) && find_method(Kind::dict, name) == nullptr) {
    return Value::undefined(fmt::format("'dict object' has no attribute '{}'", name));
  }
  return engine.attribute(input, name);
}

Value file_size(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters p(arguments, "filesizeformat", {"binary"});
  static constexpr const char* kDecimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
  static constexpr const char* kBinary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
  const bool binary = p.flag(0, false);
  const double size = to_float(engine, input, Arguments()).as_real();
  const double base = binary ? 1024 : 1000;
  if (size == 1) return Value::string("1 Byte");
  if (size < base) return Value::string(fmt::format("{} Bytes", static_cast<int64_t>(size)));
  double unit = base;
  size_t i = 0;
  while (i < 7 && size >= unit * base) {
    unit *= base;
    ++i;
  }
  return Value::string(fmt::format("{:.1f} {}", size / unit, (binary ? kBinary : kDecimal)[i]));
}

constexpr BuiltinRow kFilters[] = {
    {"default", default_value},
    {"d", default_value},
    {"length", length_of},
    {"count", length_of},
    {"abs", absolute},
    {"int", to_int},
    {"float", to_float},
    {"round", round_number},
    {"tojson", to_json},
    {"items", items_of},
    {"filesizeformat", file_size},
    {"attr", attr},
};

}  // namespace

std::span<const BuiltinRow> value_filters() {
  return kFilters;
}

Builtin find_filter(std::string_view name) {
  for (const auto rows :
       {value_filters(), text_filters(), sequence_filters(), selection_filters()}) {
    if (const Builtin found = find_row(rows, name)) return found;
  }
  return nullptr;
}

}  // namespace chorus::text::jinja
