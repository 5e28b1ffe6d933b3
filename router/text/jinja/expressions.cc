// Expressions of the template language, and how Jinja finds attributes and items: `a.b` asks for
// Python's attribute first and falls back to the item, `a['b']` the other way round.
#include <fmt/format.h>

#include <algorithm>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/evaluator.h"
#include "router/text/jinja/printing.h"

namespace chorus::text::jinja {
namespace {

// A method with the value it was taken from: `messages[0].items`.
struct BoundMethod : Function {
  BoundMethod(std::string_view method, Builtin function, const Value& of)
      : Function(std::string(method)), builtin(function), receiver(of) {
    take_in(receiver);
  }
  Value call(Engine& engine, const Arguments& arguments) override {
    return builtin(engine, receiver, arguments);
  }
  Builtin builtin;
  Value receiver;
};

Value unsafe(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(object)));
}

Value no_attribute(const Value& object, std::string_view name) {
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", described_type(object), name));
}

// Methods that change a list or a dict exist in Python, and the sandbox refuses them.
bool changes(const Value& object, std::string_view name) {
  static constexpr std::string_view kList[] = {"append", "clear", "pop",    "reverse",
                                               "insert", "sort",  "extend", "remove"};
  static constexpr std::string_view kDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  const auto has = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (object.is(Kind::list) && has(kList)) || (object.is(Kind::dict) && has(kDict));
}

bool dunder(std::string_view name) {
  return name.size() > 4 && name.substr(0, 2) == "__" && name.substr(name.size() - 2) == "__";
}

// Python's getattr(), nothing where it would raise AttributeError.
std::optional<Value> python_attribute(const Value& object, std::string_view name) {
  if (object.is(Kind::attributes)) {
    const Value* found = object.attributes().values.find(name);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (dunder(name) || changes(object, name)) return unsafe(object, name);
  if (object.is(Kind::loop)) {
    return object.loop().attribute(std::static_pointer_cast<Loop>(object.shared()), name);
  }
  if (object.is(Kind::function)) return object.function().attribute(name);
  if (object.is(Kind::tuple) && static_cast<const List&>(*object.object()).group) {
    if (name == "grouper") return object.items()[0];
    if (name == "list") return object.items()[1];
  }
  if (const Builtin method = find_method(object.kind(), name)) {
    return Value::of(Kind::function, std::make_shared<BoundMethod>(name, method, object));
  }
  return std::nullopt;
}

Value sequence_item(Engine& engine, const Value& object, int64_t count, int64_t index) {
  if (index < 0) index += count;
  if (index < 0 || index >= count) {
    return Value::undefined(fmt::format("{} has no element {}", described_type(object), index));
  }
  if (object.is_sequence()) return object.items()[static_cast<size_t>(index)];
  if (object.is(Kind::range)) {
    return Value::integer(object.range().start + index * object.range().step);
  }
  const MarkedText& text = object.text();
  engine.charge(index / 64);
  const size_t begin = byte_offset(text.bytes, static_cast<size_t>(index));
  const size_t length = byte_offset(std::string_view(text.bytes).substr(begin), 1);
  return Value::string(slice(text, begin, begin + length));
}

// Python's object[key], nothing where it would raise LookupError or TypeError.
std::optional<Value> python_item(Engine& engine, const Value& object, const Value& key) {
  if (object.is(Kind::undefined)) fail_undefined(object);
  if (object.is(Kind::dict)) {
    if (!key.is(Kind::string) && (key.is(Kind::list) || key.is(Kind::dict))) return std::nullopt;
    engine.charge(key.weight() / 8);
    const Value* found = object.dict().find(key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  const bool indexed = object.is_sequence() || object.is(Kind::range) || object.is(Kind::string);
  if (!indexed || !key.is_integral()) return std::nullopt;
  const int64_t count = length(object).value();
  const int64_t index = key.as_integer();
  if (index >= count || index < -count) return std::nullopt;
  return sequence_item(engine, object, count, index);
}

}  // namespace

Value Engine::attribute(const Value& object, const std::string& name) {
  if (object.is(Kind::undefined)) fail_undefined(object);
  if (auto found = python_attribute(object, name)) return *found;
  if (object.is(Kind::dict)) {
    if (const Value* found = object.dict().find(std::string_view(name))) return *found;
  }
  return no_attribute(object, name);
}

Value Engine::item(const Value& object, const Value& key) {
  if (auto found = python_item(*this, object, key)) return *found;
  if (key.is(Kind::string)) {
    if (auto found = python_attribute(object, key.bytes())) return *found;
    return no_attribute(object, key.bytes());
  }
  return Value::undefined(
      fmt::format("{} has no element {}", described_type(object), repr(key).bytes));
}

Value* Engine::lookup(int id) {
  for (Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    if (Value* found = scope->find(id)) return found;
  }
  const auto at = static_cast<size_t>(id);
  return defined_[at] ? &globals_[at] : nullptr;
}

Value Engine::eval(const Expr& expr) {
  if (expr.kind == ExprKind::constant) return static_cast<const ConstantExpr&>(expr).value;
  if (depth_ >= kEvaluationDepthMax) fail("the template is evaluated too deeply");
  charge(1);
  line_ = expr.line;
  ++depth_;
  struct Leaving {
    int& depth;
    ~Leaving() { --depth; }
  } leaving{depth_};
  return eval_inner(expr);
}

Value Engine::eval_inner(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::constant:
      return static_cast<const ConstantExpr&>(expr).value;
    case ExprKind::name:
      return eval_name(static_cast<const NameExpr&>(expr));
    case ExprKind::sequence:
      return eval_sequence(static_cast<const SequenceExpr&>(expr));
    case ExprKind::dict:
      return eval_dict(static_cast<const DictExpr&>(expr));
    case ExprKind::attribute: {
      const auto& node = static_cast<const AttributeExpr&>(expr);
      return attribute(eval(*node.object), node.name);
    }
    case ExprKind::item: {
      const auto& node = static_cast<const ItemExpr&>(expr);
      const Value object = eval(*node.object);
      return item(object, eval(*node.key));
    }
    case ExprKind::slice:
      return eval_slice(static_cast<const SliceExpr&>(expr));
    case ExprKind::call: {
      const auto& node = static_cast<const CallExpr&>(expr);
      const Value callee = eval(*node.callee);
      const Arguments arguments = eval_arguments(node.arguments);
      line_ = node.line;
      return call(callee, arguments);
    }
    case ExprKind::filter:
    case ExprKind::test:
      return eval_filter(static_cast<const FilterExpr&>(expr));
    case ExprKind::unary:
      return eval_unary(static_cast<const UnaryExpr&>(expr));
    case ExprKind::arithmetic:
      return eval_arithmetic(static_cast<const ChainExpr&>(expr));
    case ExprKind::concat:
      return eval_concat(static_cast<const ListExpr&>(expr));
    case ExprKind::compare:
      return eval_compare(static_cast<const ChainExpr&>(expr));
    case ExprKind::logic:
      return eval_logic(static_cast<const ListExpr&>(expr));
    case ExprKind::conditional:
      return eval_conditional(static_cast<const ConditionalExpr&>(expr));
  }
  return Value();
}

Value Engine::eval_name(const NameExpr& expr) {
  if (const Value* found = lookup(expr.id)) return *found;
  const std::string& name = program_.names[static_cast<size_t>(expr.id)];
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Value Engine::eval_sequence(const SequenceExpr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& child : expr.items) items.push_back(eval(*child));
  return expr.tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value Engine::eval_dict(const DictExpr& expr) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : expr.items) {
    const Value key_value = eval(*key);
    dict->set(key_value, eval(*value));
  }
  return Value::dict(std::move(dict));
}

Value Engine::eval_slice(const SliceExpr& expr) {
  const Value object = eval(*expr.object);
  const auto part = [&](const ExprPtr& child) { return child ? eval(*child) : Value::none(); };
  const Value start = part(expr.start);
  const Value stop = part(expr.stop);
  return slice_of(*this, object, start, stop, part(expr.step));
}

Value Engine::eval_filter(const FilterExpr& expr) {
  const Value input = expr.input ? eval(*expr.input) : block_text_;
  const Arguments arguments = eval_arguments(expr.arguments);
  line_ = expr.line;
  if (expr.builtin == nullptr) {
    fail(fmt::format("No {} named '{}'.", expr.kind == ExprKind::filter ? "filter" : "test",
                     expr.name));
  }
  return expr.builtin(*this, input, arguments);
}

Value Engine::eval_unary(const UnaryExpr& expr) {
  const Value operand = eval(*expr.operand);
  if (expr.op == Operator::negation) return Value::boolean(!truthy(operand));
  return unary(expr.op, operand);
}

Value Engine::eval_arithmetic(const ChainExpr& expr) {
  Value left = eval(*expr.first);
  for (const auto& [op, operand] : expr.rest) {
    const Value right = eval(*operand);
    line_ = expr.line;
    left = arithmetic(*this, op, left, right);
  }
  return left;
}

Value Engine::eval_concat(const ListExpr& expr) {
  MarkedText text;
  for (const ExprPtr& child : expr.items) append(text, text_of(eval(*child)));
  return string(std::move(text));
}

Value Engine::eval_compare(const ChainExpr& expr) {
  Value left = eval(*expr.first);
  for (const auto& [op, operand] : expr.rest) {
    Value right = eval(*operand);
    line_ = expr.line;
    if (!compare(*this, op, left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Engine::eval_logic(const ListExpr& expr) {
  Value value;
  for (const ExprPtr& child : expr.items) {
    value = eval(*child);
    if (truthy(value) != expr.all) break;
  }
  return value;
}

Value Engine::eval_conditional(const ConditionalExpr& expr) {
  if (truthy(eval(*expr.condition))) return eval(*expr.then);
  if (expr.otherwise) return eval(*expr.otherwise);
  return Value::undefined(
      "the inline if-expression evaluated to false and no else section was defined.");
}

Arguments Engine::eval_arguments(const CallArguments& arguments) {
  Arguments values;
  for (const ExprPtr& child : arguments.positional) values.positional.push_back(eval(*child));
  for (const auto& [name, child] : arguments.named) values.named.emplace_back(name, eval(*child));
  if (arguments.star) {
    for (Value& item : collect(eval(*arguments.star))) values.positional.push_back(item);
  }
  if (arguments.double_star) {
    const Value more = eval(*arguments.double_star);
    if (!more.is(Kind::dict)) fail("argument after ** must be a mapping");
    for (const auto& [key, value] : more.dict().items) {
      if (!key.is(Kind::string)) fail("keywords must be strings");
      values.named.emplace_back(key.bytes(), value);
    }
  }
  return values;
}

Value Engine::call(const Value& callee, const Arguments& arguments) {
  if (callee.is(Kind::undefined)) fail_undefined(callee);
  if (callee.is(Kind::loop)) {
    const Parameters p(arguments, "loop", {"iterable"}, 1);
    const std::shared_ptr<Object> loop_alive = callee.shared();
    return callee.loop().recurse(p[0]);
  }
  if (!callee.is(Kind::function)) {
    fail(fmt::format("'{}' object is not callable", type_name(callee)));
  }
  for (size_t i = 0; i < arguments.named.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (arguments.named[i].first == arguments.named[j].first) {
        fail(fmt::format("keyword argument repeated: {}", arguments.named[i].first));
      }
    }
  }
  const std::shared_ptr<Object> alive = callee.shared();
  return callee.function().call(*this, arguments);
}

Value Engine::call_filter(std::string_view name, const Value& input, const Arguments& arguments) {
  const Builtin builtin = find_filter(name);
  if (builtin == nullptr) fail(fmt::format("No filter named '{}'.", name));
  charge(1);
  return builtin(*this, input, arguments);
}

bool Engine::call_test(std::string_view name, const Value& input, const Arguments& arguments) {
  const Builtin builtin = find_test(name);
  if (builtin == nullptr) fail(fmt::format("No test named '{}'.", name));
  charge(1);
  return truthy(builtin(*this, input, arguments));
}

MarkedText Engine::text_of(const Value& value) {
  if (value.is(Kind::string)) {
    charge(value.weight());
    return value.text();
  }
  charge(value.weight());
  return str(value);
}

}  // namespace chorus::text::jinja
