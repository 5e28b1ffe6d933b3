// What may stand after `is`.
#include <fmt/format.h>

#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/printing.h"
#include "router/text/jinja/tables.h"

namespace chorus::text::jinja {
namespace {

using Predicate = bool (*)(const Value&);

// A test without arguments.
template <Predicate predicate>
Value simple(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "test", {});
  return Value::boolean(predicate(input));
}

template <Operator op>
Value comparison(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters other(arguments, "test", {"other"}, 1);
  return Value::boolean(compare(engine, op, input, other[0]));
}

int64_t remainder(Engine& engine, const Value& input, const Value& divisor, bool& zero) {
  const Value rest = arithmetic(engine, Operator::modulo, input, divisor);
  if (!rest.is_number()) fail("not a number");
  zero = rest.as_real() == 0;
  return rest.as_real() == 1 ? 1 : 0;
}

Value odd(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "odd", {});
  bool zero = false;
  return Value::boolean(remainder(engine, input, Value::integer(2), zero) == 1);
}

Value even(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters none(arguments, "even", {});
  bool zero = false;
  remainder(engine, input, Value::integer(2), zero);
  return Value::boolean(zero);
}

Value divisible_by(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters by(arguments, "divisibleby", {"num"}, 1);
  bool zero = false;
  remainder(engine, input, by[0], zero);
  return Value::boolean(zero);
}

Value same_as(Engine&, const Value& input, const Arguments& arguments) {
  const Parameters other(arguments, "sameas", {"other"}, 1);
  return Value::boolean(same_object(input, other[0]));
}

Value in(Engine& engine, const Value& input, const Arguments& arguments) {
  const Parameters sequence(arguments, "in", {"seq"}, 1);
  return Value::boolean(contains(engine, sequence[0], input));
}

Value cased(Engine& engine, const Value& input, std::string_view method) {
  const Value text = Value::string(engine.text_of(input));
  return find_method(Kind::string, method)(engine, text, Arguments());
}

Value lower(Engine& engine, const Value& input, const Arguments&) {
  return cased(engine, input, "islower");
}

Value upper(Engine& engine, const Value& input, const Arguments&) {
  return cased(engine, input, "isupper");
}

bool is_undefined(const Value& value) {
  return value.is(Kind::undefined);
}
bool is_defined(const Value& value) {
  return !value.is(Kind::undefined);
}
bool is_none(const Value& value) {
  return value.is(Kind::none);
}
bool is_boolean(const Value& value) {
  return value.is(Kind::boolean);
}
bool is_true(const Value& value) {
  return value.is(Kind::boolean) && value.as_boolean();
}
bool is_false(const Value& value) {
  return value.is(Kind::boolean) && !value.as_boolean();
}
bool is_integer(const Value& value) {
  return value.is(Kind::integer) || value.is(Kind::wide);
}
bool is_float(const Value& value) {
  return value.is(Kind::real);
}
bool is_number(const Value& value) {
  return value.is_number();
}
bool is_string(const Value& value) {
  return value.is(Kind::string);
}
bool is_mapping(const Value& value) {
  return value.is(Kind::dict);
}
bool is_iterable(const Value& value) {
  return iterable(value) || value.is(Kind::loop);
}
bool is_escaped(const Value& value) {
  return value.is(Kind::string) && value.text().markup;
}
// Undefined has a __call__, which raises.
bool is_callable(const Value& value) {
  return value.is(Kind::function) || value.is(Kind::undefined) || value.is(Kind::loop);
}
bool is_sequence(const Value& value) {
  return value.is_sequence() || value.is(Kind::string) || value.is(Kind::dict) ||
         value.is(Kind::range) || value.is(Kind::undefined);
}
bool is_filter(const Value& value) {
  hash(value);  // looked up in a table: Failure where there is no hash
  return value.is(Kind::string) && find_filter(value.bytes()) != nullptr;
}
bool is_test(const Value& value) {
  hash(value);
  return value.is(Kind::string) && find_test(value.bytes()) != nullptr;
}

constexpr BuiltinRow kTests[] = {
    {"odd", odd},
    {"even", even},
    {"divisibleby", divisible_by},
    {"defined", simple<is_defined>},
    {"undefined", simple<is_undefined>},
    {"filter", simple<is_filter>},
    {"test", simple<is_test>},
    {"none", simple<is_none>},
    {"boolean", simple<is_boolean>},
    {"false", simple<is_false>},
    {"true", simple<is_true>},
    {"integer", simple<is_integer>},
    {"float", simple<is_float>},
    {"lower", lower},
    {"upper", upper},
    {"string", simple<is_string>},
    {"mapping", simple<is_mapping>},
    {"number", simple<is_number>},
    {"sequence", simple<is_sequence>},
    {"iterable", simple<is_iterable>},
    {"callable", simple<is_callable>},
    {"sameas", same_as},
    {"escaped", simple<is_escaped>},
    {"in", in},
    {"==", comparison<Operator::equal>},
    {"eq", comparison<Operator::equal>},
    {"equalto", comparison<Operator::equal>},
    {"!=", comparison<Operator::not_equal>},
    {"ne", comparison<Operator::not_equal>},
    {">", comparison<Operator::greater>},
    {"gt", comparison<Operator::greater>},
    {"greaterthan", comparison<Operator::greater>},
    {">=", comparison<Operator::greater_equal>},
    {"ge", comparison<Operator::greater_equal>},
    {"<", comparison<Operator::less>},
    {"lt", comparison<Operator::less>},
    {"lessthan", comparison<Operator::less>},
    {"<=", comparison<Operator::less_equal>},
    {"le", comparison<Operator::less_equal>},
};

}  // namespace

Builtin find_test(std::string_view name) {
  return find_row(kTests, name);
}

}  // namespace chorus::text::jinja
