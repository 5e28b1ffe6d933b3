// Arithmetic, comparisons, containment and slices by Python's rules. Integers are as
// wide as wide.h says; `/` makes floats, `//` and `%` round down.
#include <fmt/format.h>

#include <cmath>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/escape.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/format.h"

namespace chorus::text::jinja {
namespace {

std::string_view symbol_of(Operator op) {
  switch (op) {
    case Operator::add:
      return "+";
    case Operator::subtract:
      return "-";
    case Operator::multiply:
      return "*";
    case Operator::divide:
      return "/";
    case Operator::floor_divide:
      return "//";
    case Operator::modulo:
      return "%";
    case Operator::power:
      return "** or pow()";
    default:
      return "?";
  }
}

[[noreturn]] void unsupported(Operator op, const Value& left, const Value& right) {
  fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", symbol_of(op),
                   type_name(left), type_name(right)));
}

Wide floor_divide(Wide a, Wide b) {
  const Wide quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Wide integer_power(Wide base, Wide exponent) {
  Wide result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) fail(kTooWide);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail(kTooWide);
  }
  return result;
}

// In long double, so that the quotient of two 64-bit numbers is rounded once.
double true_quotient(Wide a, Wide b) {
  return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
}

Value wide_arithmetic(Operator op, Wide a, Wide b) {
  Wide result = 0;
  bool overflow = false;
  switch (op) {
    case Operator::add:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::subtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::multiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::divide:
      if (b == 0) fail("division by zero");
      return Value::real(true_quotient(a, b));
    case Operator::floor_divide:
      if (b == 0) fail("integer division or modulo by zero");
      if (b == -1) return wide_arithmetic(Operator::subtract, 0, a);
      result = floor_divide(a, b);
      break;
    case Operator::modulo:
      if (b == 0) fail("integer modulo by zero");
      if (b == -1) return Value::integer(0);
      result = a - floor_divide(a, b) * b;
      break;
    default:
      if (b < 0) {
        if (a == 0) fail("0.0 cannot be raised to a negative power");
        return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)));
      }
      result = integer_power(a, b);
  }
  if (overflow) fail(kTooWide);
  return Value::wide(result);
}

// The everyday case, without 128 bits.
Value integer_arithmetic(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  const bool done = (op == Operator::add && !__builtin_add_overflow(a, b, &result)) ||
                    (op == Operator::subtract && !__builtin_sub_overflow(a, b, &result));
  return done ? Value::integer(result) : wide_arithmetic(op, a, b);
}

double float_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return rest == 0 ? std::copysign(0.0, b) : rest;
}

double float_power(double a, double b) {
  if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    fail("(34, 'Numerical result out of range')");
  }
  if (std::isnan(result) && a < 0) fail("complex numbers are not supported");
  return result;
}

Value float_arithmetic(Operator op, double a, double b) {
  const bool divides =
      op == Operator::divide || op == Operator::floor_divide || op == Operator::modulo;
  if (divides && b == 0) fail("float division by zero");
  switch (op) {
    case Operator::add:
      return Value::real(a + b);
    case Operator::subtract:
      return Value::real(a - b);
    case Operator::multiply:
      return Value::real(a * b);
    case Operator::divide:
      return Value::real(a / b);
    case Operator::floor_divide: {
      const double quotient = (a - float_modulo(a, b)) / b;
      return Value::real(quotient == 0 ? std::copysign(0.0, a / b) : std::round(quotient));
    }
    case Operator::modulo:
      return Value::real(float_modulo(a, b));
    default:
      return Value::real(float_power(a, b));
  }
}

Value joined(Engine& engine, const Value& left, const Value& right) {
  MarkedText text;
  text.markup = left.text().markup || right.text().markup;
  for (const Value* part : {&left, &right}) {
    append(text, text.markup ? escaped(part->text()) : part->text());
  }
  return engine.string(std::move(text));
}

Value joined_lists(Engine& engine, const Value& left, const Value& right) {
  std::vector<Value> items = left.items();
  items.insert(items.end(), right.items().begin(), right.items().end());
  engine.charge(static_cast<int64_t>(items.size() / 4));
  return left.is(Kind::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value repeated(Engine& engine, const Value& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const int64_t size = value.is(Kind::string) ? static_cast<int64_t>(value.bytes().size())
                                              : static_cast<int64_t>(value.items().size());
  if (size > 0 && times > static_cast<int64_t>(kOutputMax) / size) {
    fail("a repetition grows too long");
  }
  engine.charge(size * times / (value.is(Kind::string) ? 64 : 4));
  if (value.is(Kind::string)) {
    MarkedText text;
    text.markup = value.text().markup;
    for (int64_t i = 0; i < times && size > 0; ++i) append(text, value.text());
    return engine.string(std::move(text));
  }
  std::vector<Value> items;
  for (int64_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.is(Kind::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

// Where a slice goes: Python's slice.indices().
struct Indices {
  int64_t start, step, count;
};

Indices indices(int64_t length, const Value& start, const Value& stop, const Value& step) {
  const auto number = [](const Value& value, int64_t otherwise) {
    if (value.is(Kind::none)) return otherwise;
    if (!value.is_integral()) fail("slice indices must be integers or None");
    return value.as_integer();
  };
  const int64_t by = number(step, 1);
  if (by == 0) fail("slice step cannot be zero");
  const int64_t low = by < 0 ? -1 : 0;
  const int64_t high = by < 0 ? length - 1 : length;
  const auto clamp = [&](const Value& value, int64_t otherwise) {
    int64_t at = number(value, otherwise);
    if (value.is(Kind::none)) return at;
    if (at < 0) at += length;
    return std::min(std::max(at, low), high);
  };
  const int64_t from = clamp(start, by < 0 ? high : low);
  const int64_t to = clamp(stop, by < 0 ? low : high);
  const int64_t distance = by < 0 ? from - to : to - from;
  // Steps longer than the text are equal to one of its length, and can be negated.
  const int64_t stride = std::min(by < 0 ? -std::max(by, -length - 1) : by, length + 1);
  const int64_t count = distance <= 0 ? 0 : (distance - 1) / stride + 1;
  return {from, by < 0 ? -stride : stride, count};
}

Value slice_text(Engine& engine, const MarkedText& text, const Indices& at, int64_t length) {
  engine.charge(length / 64);
  if (at.step == 1) {
    const size_t begin = byte_offset(text.bytes, static_cast<size_t>(at.start));
    const std::string_view rest = std::string_view(text.bytes).substr(begin);
    const size_t size = byte_offset(rest, static_cast<size_t>(at.count));
    return engine.string(slice(text, begin, begin + size));
  }
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.bytes.size();) {
    offsets.push_back(i);
    decode(text.bytes, i);
  }
  offsets.push_back(text.bytes.size());
  MarkedText result;
  result.markup = text.markup;
  for (int64_t i = 0; i < at.count; ++i) {
    const auto index = static_cast<size_t>(at.start + i * at.step);
    append(result, text, offsets[index], offsets[index + 1]);
  }
  return engine.string(std::move(result));
}

}  // namespace

Value arithmetic(Engine& engine, Operator op, const Value& left, const Value& right) {
  if (left.is(Kind::undefined)) fail_undefined(left);
  if (left.is(Kind::string) && op == Operator::modulo) return format_percent(engine, left, right);
  if (right.is(Kind::undefined)) fail_undefined(right);
  if (left.is_integral() && right.is_integral()) {
    return integer_arithmetic(op, left.as_integer(), right.as_integer());
  }
  if (left.is_whole() && right.is_whole()) {
    return wide_arithmetic(op, left.as_wide(), right.as_wide());
  }
  if (left.is_number() && right.is_number()) {
    return float_arithmetic(op, left.as_real(), right.as_real());
  }
  if (op == Operator::add && left.kind() == right.kind()) {
    if (left.is(Kind::string)) return joined(engine, left, right);
    if (left.is_sequence()) return joined_lists(engine, left, right);
  }
  if (op == Operator::add && left.is(Kind::string)) {
    fail(fmt::format("can only concatenate str (not \"{}\") to str", type_name(right)));
  }
  if (op == Operator::multiply) {
    if ((left.is(Kind::string) || left.is_sequence()) && right.is_integral()) {
      return repeated(engine, left, right.as_integer());
    }
    if ((right.is(Kind::string) || right.is_sequence()) && left.is_integral()) {
      return repeated(engine, right, left.as_integer());
    }
  }
  unsupported(op, left, right);
}

Value unary(Operator op, const Value& operand) {
  if (operand.is(Kind::undefined)) fail_undefined(operand);
  if (!operand.is_number()) {
    fail(fmt::format("bad operand type for unary {}: '{}'", op == Operator::minus ? "-" : "+",
                     type_name(operand)));
  }
  if (operand.is(Kind::real)) {
    return Value::real(op == Operator::minus ? -operand.as_real() : operand.as_real());
  }
  if (op == Operator::plus) return Value::wide(operand.as_wide());
  return wide_arithmetic(Operator::subtract, 0, operand.as_wide());
}

bool compare(Engine& engine, Operator op, const Value& left, const Value& right) {
  engine.charge(std::min(left.weight(), right.weight()) / 8);
  switch (op) {
    case Operator::equal:
      return equal(left, right);
    case Operator::not_equal:
      return !equal(left, right);
    case Operator::less:
      return less(left, right, "<");
    case Operator::greater:
      return less(right, left, ">");
    case Operator::less_equal:
      return !less(right, left, "<=");
    case Operator::greater_equal:
      return !less(left, right, ">=");
    case Operator::in:
      return contains(engine, right, left);
    default:
      return !contains(engine, right, left);
  }
}

bool contains(Engine& engine, const Value& container, const Value& value) {
  engine.charge(container.weight() / 8);
  switch (container.kind()) {
    case Kind::string:
      if (value.is(Kind::undefined)) fail_undefined(value);
      if (!value.is(Kind::string)) {
        fail(
            fmt::format("'in <string>' requires string as left operand, not {}", type_name(value)));
      }
      return find_text(container.bytes(), value.bytes()) != std::string_view::npos;
    case Kind::dict:
      return container.dict().find(value) != nullptr;
    default:
      break;
  }
  if (!iterable(container)) {
    fail(fmt::format("argument of type '{}' is not iterable", type_name(container)));
  }
  const Pull pull = iterate(container);
  for (Value item; pull(item);) {
    engine.charge(1);
    if (equal(item, value)) return true;
  }
  return false;
}

Value slice_of(Engine& engine, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  if (object.is(Kind::undefined)) fail_undefined(object);
  const bool sliced = object.is(Kind::string) || object.is_sequence() || object.is(Kind::range);
  if (!sliced) fail(fmt::format("'{}' object is not subscriptable", type_name(object)));
  const int64_t count = length(object).value();
  const Indices at = indices(count, start, stop, step);
  if (object.is(Kind::string)) return slice_text(engine, object.text(), at, count);
  if (object.is(Kind::range)) {
    auto range = std::make_shared<Range>(object.range());
    const int64_t past_end = at.start + at.count * at.step;
    range->stop = range->start + past_end * range->step;
    range->start += at.start * range->step;
    range->step *= at.step;
    range->count = at.count;
    return Value::of(Kind::range, std::move(range));
  }
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(at.count));
  for (int64_t i = 0; i < at.count; ++i) {
    items.push_back(object.items()[static_cast<size_t>(at.start + i * at.step)]);
  }
  engine.charge(at.count / 4);
  return object.is(Kind::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

}  // namespace chorus::text::jinja
