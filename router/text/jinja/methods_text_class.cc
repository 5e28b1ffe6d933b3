// str.isalpha() and its kin.
#include "router/text/jinja/case.h"
#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

using Predicate = bool (*)(char32_t);

// All code points have the class, and there is at least one unless `of_nothing`.
template <Predicate predicate, bool of_nothing = false>
Value all(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "str", {});
  engine.charge(self.weight());
  const std::string& bytes = self.bytes();
  for (size_t at = 0; at < bytes.size();) {
    if (!predicate(decode(bytes, at))) return Value::boolean(false);
  }
  return Value::boolean(of_nothing || !bytes.empty());
}

// At least one cased code point, and none of the forbidden kind.
template <Predicate wanted, Predicate forbidden>
Value cased(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "str", {});
  engine.charge(self.weight());
  bool found = false;
  const std::string& bytes = self.bytes();
  for (size_t at = 0; at < bytes.size();) {
    const char32_t c = decode(bytes, at);
    if (forbidden(c) || is_title(c)) return Value::boolean(false);
    found = found || wanted(c);
  }
  return Value::boolean(found);
}

Value title(Engine& engine, const Value& self, const Arguments& arguments) {
  const Parameters none(arguments, "str", {});
  engine.charge(self.weight());
  bool found = false;
  bool inside = false;
  const std::string& bytes = self.bytes();
  for (size_t at = 0; at < bytes.size();) {
    const char32_t c = decode(bytes, at);
    const bool capital = is_upper(c) || is_title(c);
    if ((capital && inside) || (is_lower(c) && !inside)) return Value::boolean(false);
    inside = is_cased(c);
    found = found || inside;
  }
  return Value::boolean(found);
}

bool is_ascii(char32_t c) {
  return c < 0x80;
}

constexpr BuiltinRow kMethods[] = {
    {"isalpha", all<is_alpha>},
    {"isalnum", all<is_alphanumeric>},
    {"isdecimal", all<is_decimal>},
    {"isdigit", all<is_digit>},
    {"isnumeric", all<is_numeric>},
    {"isspace", all<is_space>},
    {"isascii", all<is_ascii, true>},
    {"isprintable", all<is_printable, true>},
    {"islower", cased<is_lower, is_upper>},
    {"isupper", cased<is_upper, is_lower>},
    {"istitle", title},
};

}  // namespace

std::span<const BuiltinRow> text_class_methods() {
  return kMethods;
}

}  // namespace chorus::text::jinja
