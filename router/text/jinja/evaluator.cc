// Statements of the template language, and the limits that keep a hostile template short.
#include "router/text/jinja/evaluator.h"

#include <fmt/format.h>

#include <algorithm>

#include "router/text/jinja/printing.h"

namespace chorus::text::jinja {

Value* Scope::find(int id) {
  for (auto& [name, value] : variables) {
    if (name == id) return &value;
  }
  return nullptr;
}

void Scope::set(int id, Value value) {
  if (Value* found = find(id)) {
    *found = std::move(value);
  } else {
    variables.emplace_back(id, std::move(value));
  }
}

class Engine::Deeper {
 public:
  explicit Deeper(Engine& engine) : engine_(engine) {
    if (engine_.depth_ >= kEvaluationDepthMax) fail("the template is evaluated too deeply");
    ++engine_.depth_;
  }
  ~Deeper() { --engine_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Engine& engine_;
};

class Engine::NewScope {
 public:
  NewScope(Engine& engine, std::shared_ptr<Scope> parent)
      : engine_(engine), outer_(std::move(engine.scope_)) {
    engine_.scope_ = std::make_shared<Scope>();
    engine_.scope_->parent = std::move(parent);
  }
  explicit NewScope(Engine& engine) : NewScope(engine, engine.scope_) {}
  ~NewScope() { engine_.scope_ = std::move(outer_); }
  NewScope(const NewScope&) = delete;
  NewScope& operator=(const NewScope&) = delete;

 private:
  Engine& engine_;
  std::shared_ptr<Scope> outer_;
};

class Engine::Captured {
 public:
  explicit Captured(Engine& engine)
      : engine_(engine),
        outer_(engine.out_),
        outer_broken_(std::exchange(engine.broken_, &broken_)) {
    engine_.out_ = &text;
  }
  ~Captured() {
    engine_.out_ = outer_;
    engine_.broken_ = outer_broken_;
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  MarkedText take() {
    if (!broken_.empty()) fail(broken_);
    return std::move(text);
  }
  MarkedText text;

 private:
  Engine& engine_;
  MarkedText* outer_;
  std::string broken_;
  std::string* outer_broken_;
};

// Counts calls of macros and of loops inside each other.
class Engine::Entered {
 public:
  explicit Entered(int& counter) : depth_(++counter) {}
  ~Entered() { --depth_; }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

 private:
  int& depth_;
};

// A macro as a value: its tree and the scope it was written in.
struct Engine::MacroCall : Function {
  MacroCall(const MacroStatement& macro, std::shared_ptr<Scope> scope)
      : Function(macro.name), node(macro), closure(std::move(scope)) {}
  Value call(Engine& engine, const Arguments& arguments) override {
    return engine.call_macro(node, closure, arguments);
  }
  std::optional<Value> attribute(std::string_view attribute_name) override {
    if (attribute_name == "name") return Value::string(name);
    return std::nullopt;
  }
  const MacroStatement& node;
  std::shared_ptr<Scope> closure;
};

Engine::Engine(const Program& program, std::unordered_map<const Object*, int> message_of)
    : program_(program),
      message_of_(std::move(message_of)),
      globals_(program.names.size()),
      defined_(program.names.size()) {}

Engine::~Engine() {
  for (const auto& scope : captured_) scope->variables.clear();
  for (const auto& object : namespaces_) object->values = Dict();
}

void Engine::define(std::string_view name, Value value) {
  const auto found = std::find(program_.names.begin(), program_.names.end(), name);
  if (found == program_.names.end()) return;  // the template does not ask for it
  const auto id = static_cast<size_t>(found - program_.names.begin());
  globals_[id] = std::move(value);
  defined_[id] = true;
}

MarkedText Engine::render() {
  Captured output(*this);
  run(program_.body);
  return output.take();
}

void Engine::charge(int64_t steps) {
  steps_ += steps;
  if (steps_ > kStepsMax) fail("the template takes too many steps");
}

Value Engine::string(MarkedText text) {
  if (text.bytes.size() > kOutputMax) fail("a string in the template grows too long");
  charge(static_cast<int64_t>(text.bytes.size() / 64 + text.outside.size() / 4));
  return Value::string(std::move(text));
}

Value Engine::list(std::vector<Value> items) {
  charge(static_cast<int64_t>(items.size() / 4));
  return Value::list(std::move(items));
}

std::vector<Value> Engine::collect(const Value& iterable) {
  std::vector<Value> items;
  const Pull pull = iterate(iterable);
  for (Value item; pull(item);) {
    charge(1);
    items.push_back(std::move(item));
  }
  return items;
}

Value Engine::make_namespace() {
  auto object = std::make_shared<Namespace>();
  namespaces_.push_back(object);
  return Value::of(Kind::attributes, std::move(object));
}

void Engine::written(size_t bytes_before, size_t ranges_before) {
  charge(static_cast<int64_t>((out_->bytes.size() - bytes_before) / 64));
  charge(static_cast<int64_t>((out_->outside.size() - ranges_before) / 4));
  if (out_->bytes.size() > kOutputMax) fail("the template's output is too long");
}

void Engine::write(const Value& value) {
  const size_t before = out_->bytes.size();
  const size_t ranges = out_->outside.size();
  if (value.is(Kind::string)) {
    append(*out_, value.text());
  } else if (!value.is(Kind::undefined)) {
    append(*out_, text_of(value));
  }
  written(before, ranges);
}

Engine::Flow Engine::run(const Body& body) {
  for (const auto& statement : body) {
    const Flow flow = run(*statement);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Engine::Flow Engine::run(const Statement& statement) {
  const Deeper deeper(*this);
  charge(1);
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::text: {
      const size_t before = out_->bytes.size();
      append(*out_, static_cast<const TextStatement&>(statement).text);
      written(before, out_->outside.size());
      return Flow::next;
    }
    case StatementKind::output:
      write(eval(*static_cast<const OutputStatement&>(statement).value));
      return Flow::next;
    case StatementKind::condition:
      return run_if(static_cast<const IfStatement&>(statement));
    case StatementKind::loop:
      return run_for(static_cast<const ForStatement&>(statement));
    case StatementKind::set: {
      const auto& node = static_cast<const SetStatement&>(statement);
      assign(node.target, eval(*node.value));
      return Flow::next;
    }
    case StatementKind::set_block:
    case StatementKind::filter_block:
      return run_block(static_cast<const BlockStatement&>(statement));
    case StatementKind::macro: {
      const auto& node = static_cast<const MacroStatement&>(statement);
      set_name(node.id, make_macro(node));
      return Flow::next;
    }
    case StatementKind::call_block:
      run_call_block(static_cast<const CallStatement&>(statement));
      return Flow::next;
    case StatementKind::with:
      return run_with(static_cast<const WithStatement&>(statement));
    case StatementKind::scope:
      return run_scoped(static_cast<const ScopeStatement&>(statement).body);
    case StatementKind::break_loop:
      return Flow::leave_loop;
    case StatementKind::continue_loop:
      return Flow::next_iteration;
  }
  return Flow::next;
}

Engine::Flow Engine::run_if(const IfStatement& node) {
  for (const auto& [test, body] : node.branches) {
    if (truthy(eval(*test))) return run(body);
  }
  return run(node.otherwise);
}

// Draws items as the loop asks for them and keeps those that pass the loop's `if`, in a scope that
// holds the loop's variables but not yet `loop`.
Pull Engine::filtered(const ForStatement& node, Pull source) {
  return [this, &node, source = std::move(source)](Value& item) {
    while (source(item)) {
      charge(1);
      const NewScope scope(*this);
      assign(node.target, item);
      if (truthy(eval(*node.test))) return true;
    }
    return false;
  };
}

Engine::Flow Engine::run_for(const ForStatement& node) {
  return run_loop(node, eval(*node.iterable), 0);
}

Engine::Flow Engine::run_loop(const ForStatement& node, const Value& items, int depth) {
  Pull source = iterate(items);
  if (node.test) source = filtered(node, std::move(source));
  const auto known = node.test ? std::nullopt : length(items);
  const auto loop = std::make_shared<Loop>(std::move(source), known, depth);
  loop->take_in(items);
  if (node.recursive) {
    loop->set_recurse([this, &node, scope = scope_](const Value& inner, int inner_depth) {
      return recurse(node, scope, inner, inner_depth);
    });
  }
  struct Closing {
    Loop& loop;
    ~Closing() { loop.close(); }
  } closing{*loop};
  bool completed = false;
  const Flow flow = run_iterations(node, loop, completed);
  if (flow != Flow::next) return flow;
  // Jinja notes that the loop ran at the end of its body: a first `break` still runs the else.
  if (!completed) return run_scoped(node.otherwise);
  return Flow::next;
}

// loop(items): the same loop over other items, where the first one stood.
Value Engine::recurse(const ForStatement& node, const std::shared_ptr<Scope>& where,
                      const Value& items, int depth) {
  if (macro_depth_ >= kMacroDepthMax) fail("a loop calls itself too deeply");
  const Entered entered(macro_depth_);
  const int line = line_;
  Captured captured(*this);
  const NewScope scope(*this, where);
  run_loop(node, items, depth);
  line_ = line;
  return string(captured.take());
}

Engine::Flow Engine::run_iterations(const ForStatement& node, const std::shared_ptr<Loop>& loop,
                                    bool& completed) {
  const int outer_message = message_index_;
  for (Value item; loop->advance(item);) {
    charge(1);
    const NewScope scope(*this);
    scope_->set(node.loop_id, Value::of(Kind::loop, loop));
    assign(node.target, item);
    const auto message = message_of_.find(item.object());
    if (item.is(Kind::dict) && message != message_of_.end()) message_index_ = message->second;
    const Flow flow = run(node.body);
    message_index_ = outer_message;
    if (flow == Flow::leave_loop) break;
    completed = completed || flow == Flow::next;
  }
  return Flow::next;
}

Engine::Flow Engine::run_scoped(const Body& body) {
  if (body.empty()) return Flow::next;
  const NewScope scope(*this);
  return run(body);
}

Engine::Flow Engine::run_with(const WithStatement& node) {
  std::vector<Value> values;
  for (const auto& [target, value] : node.values) values.push_back(eval(*value));
  const NewScope scope(*this);
  for (size_t i = 0; i < values.size(); ++i) assign(node.values[i].first, values[i]);
  return run(node.body);
}

Engine::Flow Engine::run_block(const BlockStatement& node) {
  Value text;
  {
    Captured captured(*this);
    const Flow flow = run_scoped(node.body);
    if (flow != Flow::next) return flow;
    text = string(captured.take());
  }
  if (node.filter) {
    const Value outer = std::exchange(block_text_, text);
    text = eval(*node.filter);
    block_text_ = outer;
  }
  if (node.kind == StatementKind::filter_block) {
    if (!text.is(Kind::string)) {  // Python notices when the pieces are joined
      *broken_ = fmt::format("expected str instance, {} found", type_name(text));
      return Flow::next;
    }
    write(text);
  } else {
    assign(node.target, text);
  }
  return Flow::next;
}

void Engine::run_call_block(const CallStatement& node) {
  const auto& call_expr = static_cast<const CallExpr&>(*node.call);
  const Value callee = eval(*call_expr.callee);
  Arguments arguments = eval_arguments(call_expr.arguments);
  arguments.named.emplace_back("caller", make_macro(*node.caller));
  line_ = node.line;
  write(call(callee, arguments));
}

void Engine::set_name(int id, const Value& value) {
  if (scope_) return scope_->set(id, value);
  globals_[static_cast<size_t>(id)] = value;
  defined_[static_cast<size_t>(id)] = true;
}

void Engine::assign(const Target& target, const Value& value) {
  if (target.tuple) {
    const std::vector<Value> parts = collect(value);
    if (parts.size() != target.parts.size()) {
      fail(fmt::format("{} values to unpack (expected {}, got {})",
                       parts.size() < target.parts.size() ? "not enough" : "too many",
                       target.parts.size(), parts.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i]);
    return;
  }
  if (target.attribute.empty()) return set_name(target.id, value);
  const Value* object = lookup(target.id);
  if (object == nullptr || !object->is(Kind::attributes)) {
    fail("cannot assign attribute on non-namespace object");
  }
  if (target.attribute[0] == '_') fail("a namespace takes no attribute that starts with '_'");
  object->attributes().values.set(Value::string(target.attribute), value);
}

Value Engine::make_macro(const MacroStatement& node) {
  if (scope_ && (captured_.empty() || captured_.back() != scope_)) captured_.push_back(scope_);
  return Value::of(Kind::function, std::make_shared<MacroCall>(node, scope_));
}

// Arguments into the macro's own scope: positional, named, defaults, then the special names.
void Engine::bind(const MacroStatement& macro, const Arguments& arguments) {
  const size_t count = macro.parameters.size();
  std::vector<std::pair<std::string, Value>> named = arguments.named;
  const auto take = [&](std::string_view name) -> std::optional<Value> {
    const auto found = std::find_if(named.begin(), named.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (found == named.end()) return std::nullopt;
    Value value = std::move(found->second);
    named.erase(found);
    return value;
  };
  for (size_t i = 0; i < count; ++i) {
    const auto& [id, name] = macro.parameters[i];
    if (i < arguments.positional.size()) {
      scope_->set(id, arguments.positional[i]);
    } else if (auto value = take(name)) {
      scope_->set(id, *value);
    } else if (i + macro.defaults.size() >= count) {
      scope_->set(id, eval(*macro.defaults[i + macro.defaults.size() - count]));
    } else {
      scope_->set(id, Value::undefined(fmt::format("parameter '{}' was not provided", name)));
    }
  }
  const auto set_special = [&](std::string_view name, Value value) {
    const auto found = std::find(program_.names.begin(), program_.names.end(), name);
    scope_->set(static_cast<int>(found - program_.names.begin()), std::move(value));
  };
  if (macro.takes_caller) {
    set_special("caller", take("caller").value_or(Value::undefined("No caller defined")));
  }
  if (macro.takes_kwargs) {
    auto rest = std::make_shared<Dict>();
    for (const auto& [name, value] : named) rest->set(Value::string(name), value);
    set_special("kwargs", Value::dict(std::move(rest)));
  } else if (!named.empty()) {
    fail(fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, named[0].first));
  }
  const size_t taken = std::min(count, arguments.positional.size());
  if (macro.takes_varargs) {
    set_special("varargs",
                Value::tuple({arguments.positional.begin() + static_cast<ptrdiff_t>(taken),
                              arguments.positional.end()}));
  } else if (arguments.positional.size() > count) {
    fail(fmt::format("macro '{}' takes not more than {} argument(s)", macro.name, count));
  }
}

Value Engine::call_macro(const MacroStatement& macro, const std::shared_ptr<Scope>& closure,
                         const Arguments& arguments) {
  if (macro_depth_ >= kMacroDepthMax) fail("macros call each other too deeply");
  const Entered entered(macro_depth_);
  const int line = line_;
  const int message = message_index_;
  Captured captured(*this);
  const NewScope scope(*this, closure);
  bind(macro, arguments);
  run(macro.body);
  line_ = line;
  message_index_ = message;
  return string(captured.take());
}

}  // namespace chorus::text::jinja
