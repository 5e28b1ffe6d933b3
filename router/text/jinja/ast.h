// A parsed template. Nodes are plain data; evaluator.cc and expressions.cc give them meaning.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/text/jinja/builtins.h"
#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

enum class ExprKind : uint8_t {
  constant,
  name,
  sequence,
  dict,
  attribute,
  item,
  slice,
  call,
  filter,
  test,
  unary,
  arithmetic,
  concat,
  compare,
  logic,
  conditional,
};

struct Expr {
  Expr(ExprKind expr_kind, int at_line) : kind(expr_kind), line(at_line) {}
  virtual ~Expr() = default;
  ExprKind kind;
  int line;
  int height = 1;  // of the tree below, limited by the parser
};
using ExprPtr = std::unique_ptr<Expr>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star;         // *args
  ExprPtr double_star;  // **kwargs
};

struct ConstantExpr : Expr {
  ConstantExpr(Value constant, int at_line)
      : Expr(ExprKind::constant, at_line), value(std::move(constant)) {}
  Value value;
};

struct NameExpr : Expr {
  NameExpr(int name_id, int at_line) : Expr(ExprKind::name, at_line), id(name_id) {}
  int id;  // in Program::names
};

struct SequenceExpr : Expr {
  explicit SequenceExpr(int at_line) : Expr(ExprKind::sequence, at_line) {}
  bool tuple = false;
  std::vector<ExprPtr> items;
};

struct DictExpr : Expr {
  explicit DictExpr(int at_line) : Expr(ExprKind::dict, at_line) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};

struct AttributeExpr : Expr {
  AttributeExpr(ExprPtr of, std::string attribute, int at_line)
      : Expr(ExprKind::attribute, at_line), object(std::move(of)), name(std::move(attribute)) {}
  ExprPtr object;
  std::string name;
};

struct ItemExpr : Expr {
  ItemExpr(ExprPtr of, ExprPtr item_key, int at_line)
      : Expr(ExprKind::item, at_line), object(std::move(of)), key(std::move(item_key)) {}
  ExprPtr object;
  ExprPtr key;
};

// object[start:stop:step]; a part left out is null.
struct SliceExpr : Expr {
  explicit SliceExpr(int at_line) : Expr(ExprKind::slice, at_line) {}
  ExprPtr object, start, stop, step;
};

struct CallExpr : Expr {
  CallExpr(ExprPtr called, CallArguments with, int at_line)
      : Expr(ExprKind::call, at_line), callee(std::move(called)), arguments(std::move(with)) {}
  ExprPtr callee;
  CallArguments arguments;
};

// `input | name(arguments)` and `input is name(arguments)`. An unknown name is an error only when
// it is reached, as in Jinja inside of conditions.
struct FilterExpr : Expr {
  FilterExpr(ExprKind filter_or_test, int at_line) : Expr(filter_or_test, at_line) {}
  ExprPtr input;  // null at the head of a filter block: the block's text
  std::string name;
  Builtin builtin = nullptr;
  CallArguments arguments;
};

enum class Operator : uint8_t {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  plus,
  minus,
  negation,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in,
};

struct UnaryExpr : Expr {
  UnaryExpr(Operator operation, ExprPtr of, int at_line)
      : Expr(ExprKind::unary, at_line), op(operation), operand(std::move(of)) {}
  Operator op;
  ExprPtr operand;
};

// first op1 a op2 b ...: from the left for arithmetic, pairwise for comparisons. A chain is one
// node, so a sum of a thousand terms is not a thousand levels deep.
struct ChainExpr : Expr {
  ChainExpr(ExprKind chain_kind, ExprPtr head, int at_line)
      : Expr(chain_kind, at_line), first(std::move(head)) {}
  ExprPtr first;
  std::vector<std::pair<Operator, ExprPtr>> rest;
};

// a ~ b ~ c; a and b and c; a or b or c.
struct ListExpr : Expr {
  ListExpr(ExprKind list_kind, bool is_and, int at_line) : Expr(list_kind, at_line), all(is_and) {}
  bool all;
  std::vector<ExprPtr> items;
};

struct ConditionalExpr : Expr {
  explicit ConditionalExpr(int at_line) : Expr(ExprKind::conditional, at_line) {}
  ExprPtr condition, then, otherwise;  // `otherwise` may be null: undefined
};

// Where an assignment goes: a name, a tuple of targets, or an attribute of a namespace.
struct Target {
  int line = 0;
  int id = -1;            // a name; of the namespace where `attribute` is set
  std::string attribute;  // ns.attribute
  std::vector<Target> parts;
  bool tuple = false;
};

enum class StatementKind : uint8_t {
  text,
  output,
  condition,
  loop,
  set,
  set_block,
  macro,
  call_block,
  filter_block,
  with,
  scope,
  break_loop,
  continue_loop,
};

struct Statement {
  Statement(StatementKind statement_kind, int at_line) : kind(statement_kind), line(at_line) {}
  virtual ~Statement() = default;
  StatementKind kind;
  int line;
};
using Body = std::vector<std::unique_ptr<Statement>>;

struct TextStatement : Statement {
  TextStatement(std::string data, int at_line)
      : Statement(StatementKind::text, at_line), text(std::move(data)) {}
  std::string text;
};

struct OutputStatement : Statement {
  OutputStatement(ExprPtr printed, int at_line)
      : Statement(StatementKind::output, at_line), value(std::move(printed)) {}
  ExprPtr value;
};

struct IfStatement : Statement {
  explicit IfStatement(int at_line) : Statement(StatementKind::condition, at_line) {}
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};

struct ForStatement : Statement {
  explicit ForStatement(int at_line) : Statement(StatementKind::loop, at_line) {}
  int loop_id = -1;  // the name `loop`
  Target target;
  ExprPtr iterable;
  ExprPtr test;            // may be null
  bool recursive = false;  // loop(items) runs it again, one level deeper
  Body body, otherwise;
};

struct SetStatement : Statement {
  explicit SetStatement(int at_line) : Statement(StatementKind::set, at_line) {}
  Target target;
  ExprPtr value;
};

// {% set x | filters %}body{% endset %} and {% filter f %}body{% endfilter %}
struct BlockStatement : Statement {
  BlockStatement(StatementKind block_kind, int at_line) : Statement(block_kind, at_line) {}
  Target target;   // set_block
  ExprPtr filter;  // may be null; its innermost input is null
  Body body;
};

// A macro, or the body of a call block as seen by `caller`.
struct MacroStatement : Statement {
  explicit MacroStatement(int at_line) : Statement(StatementKind::macro, at_line) {}
  int id = -1;
  std::string name;
  std::vector<std::pair<int, std::string>> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool takes_varargs = false, takes_kwargs = false, takes_caller = false;
  Body body;
};

struct CallStatement : Statement {
  explicit CallStatement(int at_line) : Statement(StatementKind::call_block, at_line) {}
  std::unique_ptr<MacroStatement> caller;
  ExprPtr call;  // a CallExpr
};

struct WithStatement : Statement {
  explicit WithStatement(int at_line) : Statement(StatementKind::with, at_line) {}
  std::vector<std::pair<Target, ExprPtr>> values;
  Body body;
};

// {% generation %}: marks what the assistant said, for training; rendered as it is.
struct ScopeStatement : Statement {
  explicit ScopeStatement(int at_line) : Statement(StatementKind::scope, at_line) {}
  Body body;
};

struct JumpStatement : Statement {
  using Statement::Statement;
};

struct Program {
  Body body;
  std::vector<std::string> names;  // variables; nodes hold positions in here
};

}  // namespace chorus::text::jinja
