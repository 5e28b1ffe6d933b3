// Runs a parsed template over variables. One Engine renders once; it lives on one thread.
//
// Scopes are Jinja's: `for`, macros, set blocks, filter blocks and `with` open one, `if` does not.
// Assignment writes the innermost scope, each iteration of a loop starts with an empty one.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "router/text/jinja/ast.h"
#include "router/text/jinja/loop.h"
#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

constexpr int64_t kStepsMax = 10'000'000;
constexpr size_t kOutputMax = 16 << 20;
constexpr int kMacroDepthMax = 64;
constexpr int kEvaluationDepthMax = 1500;
constexpr int64_t kRangeMax = 100'000;

// Variables of a loop's iteration, a macro call or a block. The template's own level is not a
// Scope: a null pointer stands for it.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;

  Value* find(int id);
  void set(int id, Value value);
};

class Engine {
 public:
  // `message_of` tells which message an object is, for errors.
  Engine(const Program& program, std::unordered_map<const Object*, int> message_of);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void define(std::string_view name, Value value);
  MarkedText render();

  // Where evaluation is or stopped.
  int line() const { return line_; }
  int message_index() const { return message_index_; }

  // For builtins. `charge` counts work against kStepsMax.
  void charge(int64_t steps);
  Value string(MarkedText text);         // charges for its bytes
  Value list(std::vector<Value> items);  // charges for its items
  std::vector<Value> collect(const Value& iterable);
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_filter(std::string_view name, const Value& input, const Arguments& arguments);
  bool call_test(std::string_view name, const Value& input, const Arguments& arguments);
  MarkedText text_of(const Value& value);  // str(value)
  Value make_namespace();

  Value call_macro(const MacroStatement& macro, const std::shared_ptr<Scope>& closure,
                   const Arguments& arguments);

 private:
  enum class Flow { next, leave_loop, next_iteration };
  class Deeper;    // counts recursion
  class NewScope;  // opens and closes one
  class Captured;  // redirects output
  class Entered;
  struct MacroCall;

  // Statements (evaluator.cc).
  Flow run(const Body& body);
  Flow run(const Statement& statement);
  Flow run_if(const IfStatement& node);
  Flow run_for(const ForStatement& node);
  Flow run_loop(const ForStatement& node, const Value& items, int depth);
  Value recurse(const ForStatement& node, const std::shared_ptr<Scope>& where, const Value& items,
                int depth);
  Flow run_iterations(const ForStatement& node, const std::shared_ptr<Loop>& loop, bool& completed);
  Flow run_with(const WithStatement& node);
  Flow run_block(const BlockStatement& node);
  void run_call_block(const CallStatement& node);
  Flow run_scoped(const Body& body);
  Pull filtered(const ForStatement& node, Pull source);
  void write(const Value& value);
  void written(size_t bytes_before, size_t ranges_before);
  void assign(const Target& target, const Value& value);
  void set_name(int id, const Value& value);
  Value make_macro(const MacroStatement& node);
  void bind(const MacroStatement& macro, const Arguments& arguments);

  // Expressions (expressions.cc).
  Value eval(const Expr& expr);
  Value eval_inner(const Expr& expr);
  Value eval_name(const NameExpr& expr);
  Value eval_sequence(const SequenceExpr& expr);
  Value eval_dict(const DictExpr& expr);
  Value eval_slice(const SliceExpr& expr);
  Value eval_filter(const FilterExpr& expr);
  Value eval_unary(const UnaryExpr& expr);
  Value eval_arithmetic(const ChainExpr& expr);
  Value eval_concat(const ListExpr& expr);
  Value eval_compare(const ChainExpr& expr);
  Value eval_logic(const ListExpr& expr);
  Value eval_conditional(const ConditionalExpr& expr);
  Arguments eval_arguments(const CallArguments& arguments);
  Value* lookup(int id);

  const Program& program_;
  std::unordered_map<const Object*, int> message_of_;
  std::vector<Value> globals_;  // by name id, with which of them are set
  std::vector<bool> defined_;
  std::shared_ptr<Scope> scope_;
  std::vector<std::shared_ptr<Scope>> captured_;        // by macros: cycles, cut at the end
  std::vector<std::shared_ptr<Namespace>> namespaces_;  // the same
  MarkedText* out_ = nullptr;
  std::string* broken_ = nullptr;  // set where what goes to out_ cannot be joined to text
  Value block_text_;               // what a filter block's first filter gets
  int line_ = 0;
  int message_index_ = -1;
  int depth_ = 0;
  int macro_depth_ = 0;
  int64_t steps_ = 0;
};

// Operators (operators.cc).
Value arithmetic(Engine& engine, Operator op, const Value& left, const Value& right);
Value unary(Operator op, const Value& operand);
bool compare(Engine& engine, Operator op, const Value& left, const Value& right);
bool contains(Engine& engine, const Value& container, const Value& value);
Value slice_of(Engine& engine, const Value& object, const Value& start, const Value& stop,
               const Value& step);

}  // namespace chorus::text::jinja
