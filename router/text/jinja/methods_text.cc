// Methods of strings that make strings, lists or positions. Positions count code points.
#include <fmt/format.h>

#include "router/text/jinja/case.h"
#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/escape.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/format.h"
#include "router/text/jinja/tables.h"
#include "router/text/jinja/text_operations.h"

namespace chorus::text::jinja {
namespace {

const MarkedText kEmpty;

const std::string* optional_text(const Parameters& p, size_t i) {
  return p.has(i) && !p[i].is(Kind::none) ? &p.text(i, kEmpty).bytes : nullptr;
}

template <Casing casing>
Value cased(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "case", {});
  engine.charge(self.weight() * 8);
  return engine.string(with_case(self.text(), casing));
}

template <Sides sides>
Value strip_method(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "strip", {"chars"});
  return engine.string(strip(self.text(), optional_text(p, 0), sides));
}

Value texts(Engine& engine, std::vector<MarkedText> parts) {
  std::vector<Value> values;
  values.reserve(parts.size());
  for (MarkedText& part : parts) values.push_back(engine.string(std::move(part)));
  return engine.list(std::move(values));
}

template <bool from_right>
Value split_method(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "split", {"sep", "maxsplit"});
  return texts(engine,
               split(engine, self.text(), optional_text(p, 0), p.integer(1, -1), from_right));
}

Value split_lines_method(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "splitlines", {"keepends"});
  return texts(engine, split_lines(engine, self.text(), p.flag(0, false)));
}

template <bool from_right>
Value partition(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "partition", {"sep"}, 1);
  const MarkedText& separator = p.text(0, kEmpty);
  if (separator.bytes.empty()) fail("empty separator");
  const MarkedText& text = self.text();
  engine.charge(self.weight());
  if (from_right) engine.charge(backward_work(text.bytes.size(), separator.bytes));
  const size_t found =
      from_right ? text.bytes.rfind(separator.bytes) : find_text(text.bytes, separator.bytes);
  const Value whole = Value::string(text);
  const Value empty = Value::string("");
  if (found == std::string::npos) {
    return from_right ? Value::tuple({empty, empty, whole}) : Value::tuple({whole, empty, empty});
  }
  const size_t behind = found + separator.bytes.size();
  return Value::tuple({engine.string(slice(text, 0, found)),
                       engine.string(slice(text, found, behind)),
                       engine.string(slice(text, behind, text.bytes.size()))});
}

Value replace_method(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "replace", {"old", "new", "count"}, 2);
  const MarkedText& text = self.text();
  const MarkedText& fresh = p.text(1, kEmpty);
  MarkedText result = replace(engine, text, p.text(0, kEmpty).bytes,
                              text.markup ? escaped(fresh) : fresh, p.integer(2, -1));
  result.markup = text.markup;
  return engine.string(std::move(result));
}

Value join_method(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "join", {"iterable"}, 1);
  const bool markup = self.text().markup;
  MarkedText result;
  result.markup = markup;
  int64_t at = 0;
  const Pull pull = iterate(p[0]);
  for (Value item; pull(item); ++at) {
    engine.charge(1);
    if (!item.is(Kind::string)) {
      fail(fmt::format("sequence item {}: expected str instance, {} found", at, type_name(item)));
    }
    if (at > 0) append(result, self.text());
    append(result, markup ? escaped(item.text()) : item.text());
    if (result.bytes.size() > kOutputMax) fail("a string in the template grows too long");
  }
  return engine.string(std::move(result));
}

// The part of the text that `start` and `stop` choose, as bytes.
struct Window {
  size_t begin, end;
  bool valid;
};

Window window(const MarkedText& text, const Parameters& p) {
  const auto size = static_cast<int64_t>(code_point_count(text.bytes));
  const auto bound = [&](size_t i, int64_t otherwise) {
    const int64_t at = p.has(i) && !p[i].is(Kind::none) ? p.integer(i, 0) : otherwise;
    return std::max<int64_t>(at < 0 ? at + size : at, 0);
  };
  const int64_t start = bound(1, 0);
  const int64_t stop = std::min(bound(2, size), size);
  return {byte_offset(text.bytes, static_cast<size_t>(start)),
          byte_offset(text.bytes, static_cast<size_t>(stop)), start <= stop};
}

template <bool at_end>
Value affix(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, at_end ? "endswith" : "startswith", {"prefix", "start", "end"}, 1);
  const Window chosen = window(self.text(), p);
  const std::string_view text =
      chosen.valid ? std::string_view(self.bytes()).substr(chosen.begin, chosen.end - chosen.begin)
                   : std::string_view();
  const auto matches = [&](const Value& candidate) {
    if (candidate.is(Kind::undefined)) fail_undefined(candidate);
    if (!candidate.is(Kind::string)) {
      fail(fmt::format("{} first arg must be str or a tuple of str, not {}",
                       at_end ? "endswith" : "startswith", type_name(candidate)));
    }
    const std::string& affix_text = candidate.bytes();
    if (!chosen.valid || affix_text.size() > text.size()) return false;
    return text.substr(at_end ? text.size() - affix_text.size() : 0, affix_text.size()) ==
           affix_text;
  };
  if (!p[0].is(Kind::tuple)) return Value::boolean(matches(p[0]));
  engine.charge(static_cast<int64_t>(p[0].items().size()));
  return Value::boolean(std::any_of(p[0].items().begin(), p[0].items().end(), matches));
}

// find, rfind, index, rindex.
template <bool from_right, bool must>
Value find_method_of_text(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "find", {"sub", "start", "end"}, 1);
  engine.charge(self.weight());
  const std::string& wanted = p.text(0, kEmpty).bytes;
  const Window chosen = window(self.text(), p);
  if (chosen.valid) {
    const std::string_view text =
        std::string_view(self.bytes()).substr(chosen.begin, chosen.end - chosen.begin);
    if (from_right) engine.charge(backward_work(text.size(), wanted));
    const size_t found = from_right ? text.rfind(wanted) : find_text(text, wanted);
    if (found != std::string_view::npos) {
      const std::string_view before =
          std::string_view(self.bytes()).substr(0, chosen.begin + found);
      return Value::integer(static_cast<int64_t>(code_point_count(before)));
    }
  }
  if (must) fail("substring not found");
  return Value::integer(-1);
}

Value count(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "count", {"sub", "start", "end"}, 1);
  engine.charge(self.weight());
  const std::string& wanted = p.text(0, kEmpty).bytes;
  const Window chosen = window(self.text(), p);
  if (!chosen.valid) return Value::integer(0);
  const std::string_view text =
      std::string_view(self.bytes()).substr(chosen.begin, chosen.end - chosen.begin);
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(code_point_count(text)) + 1);
  int64_t found = 0;
  for (size_t at = find_text(text, wanted); at != std::string_view::npos;
       at = find_text(text, wanted, at + wanted.size())) {
    ++found;
  }
  return Value::integer(found);
}

template <Sides side>
Value justify(Engine& engine, const Value& self, const Arguments& arguments) {
  static const MarkedText blank = plain(" ");
  const Parameters p(arguments, "justify", {"width", "fillchar"}, 1);
  return engine.string(padded(engine, self.text(), p.integer(0, 0), p.text(1, blank), side));
}

Value zero_fill(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "zfill", {"width"}, 1);
  const MarkedText& text = self.text();
  const bool has_sign = !text.bytes.empty() && (text.bytes[0] == '-' || text.bytes[0] == '+');
  const size_t sign = has_sign ? 1 : 0;
  MarkedText result = slice(text, 0, sign);
  append(result, padded(engine, slice(text, sign, text.bytes.size()),
                        p.integer(0, 0) - static_cast<int64_t>(sign), plain("0"), Sides::right));
  return engine.string(std::move(result));
}

template <bool at_end>
Value remove_affix(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "removeprefix", {"affix"}, 1);
  const std::string& affix_text = p.text(0, kEmpty).bytes;
  const MarkedText& text = self.text();
  const size_t size = text.bytes.size();
  if (affix_text.size() > size) return self;
  const size_t rest = size - affix_text.size();
  if (text.bytes.compare(at_end ? rest : 0, affix_text.size(), affix_text) != 0) return self;
  return engine.string(at_end ? slice(text, 0, rest) : slice(text, affix_text.size(), size));
}

Value expand_tabs(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "expandtabs", {"tabsize"});
  const int64_t size = std::min<int64_t>(std::max<int64_t>(p.integer(0, 8), 0), 1000);
  const MarkedText& text = self.text();
  MarkedText result;
  result.markup = text.markup;
  int64_t column = 0;
  for (size_t at = 0; at < text.bytes.size();) {
    const size_t begin = at;
    const char32_t c = decode(text.bytes, at);
    if (c == '\t') {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      append(result, std::string(static_cast<size_t>(blanks), ' '));
      column += blanks;
      continue;
    }
    append(result, text, begin, at);
    column = c == '\n' || c == '\r' ? 0 : column + 1;
  }
  return engine.string(std::move(result));
}

Value format(Engine& engine, const Value& self, const Arguments& arguments) {
  return format_braces(engine, self, arguments);
}

Value format_map(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters p(arguments, "format_map", {"mapping"}, 1);
  if (!p[0].is(Kind::dict)) fail("format_map() argument must be a mapping");
  Arguments named;
  for (const auto& [key, value] : p[0].dict().items) {
    if (key.is(Kind::string)) named.named.emplace_back(key.bytes(), value);
  }
  return format_braces(engine, self, named);
}

constexpr BuiltinRow kMethods[] = {
    {"upper", cased<Casing::upper>},
    {"lower", cased<Casing::lower>},
    {"casefold", cased<Casing::lower>},
    {"title", cased<Casing::title>},
    {"capitalize", cased<Casing::capitalize>},
    {"swapcase", cased<Casing::swap>},
    {"strip", strip_method<Sides::both>},
    {"lstrip", strip_method<Sides::left>},
    {"rstrip", strip_method<Sides::right>},
    {"split", split_method<false>},
    {"rsplit", split_method<true>},
    {"splitlines", split_lines_method},
    {"partition", partition<false>},
    {"rpartition", partition<true>},
    {"replace", replace_method},
    {"join", join_method},
    {"startswith", affix<false>},
    {"endswith", affix<true>},
    {"find", find_method_of_text<false, false>},
    {"rfind", find_method_of_text<true, false>},
    {"index", find_method_of_text<false, true>},
    {"rindex", find_method_of_text<true, true>},
    {"count", count},
    {"center", justify<Sides::both>},
    {"ljust", justify<Sides::left>},
    {"rjust", justify<Sides::right>},
    {"zfill", zero_fill},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"expandtabs", expand_tabs},
    {"format", format},
    {"format_map", format_map},
};

}  // namespace

std::span<const BuiltinRow> text_methods() {
  return kMethods;
}

}  // namespace chorus::text::jinja
