// Expressions, loosest binding first: inline if, or, and, not, comparisons, + -, ~, * / // %, **,
// unary, postfix. Jinja's order differs from Python's in places (`~` binds tighter than `+`, `**`
// to the left, unary minus before `**`); this follows Jinja.
#include <fmt/format.h>

#include "router/text/jinja/parser_state.h"

namespace chorus::text::jinja {
namespace {

struct OperatorRow {
  std::string_view symbol;
  Operator op;
  int level;  // 0: + -, 1: * / // %, 2: **
};

constexpr OperatorRow kArithmetic[] = {
    {"+", Operator::add, 0},    {"-", Operator::subtract, 0},      {"*", Operator::multiply, 1},
    {"/", Operator::divide, 1}, {"//", Operator::floor_divide, 1}, {"%", Operator::modulo, 1},
    {"**", Operator::power, 2},
};

constexpr std::pair<std::string_view, Operator> kComparisons[] = {
    {"==", Operator::equal},      {"!=", Operator::not_equal}, {"<", Operator::less},
    {"<=", Operator::less_equal}, {">", Operator::greater},    {">=", Operator::greater_equal},
};

}  // namespace

ExpressionParser::Nested::Nested(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.depth_ > kParserDepthMax) {
    --parser_.depth_;
    parser_.stream_.error("the template is nested too deeply");
  }
}

ExpressionParser::Nested::~Nested() {
  --parser_.depth_;
}

void ExpressionParser::cover(Expr& parent, const ExprPtr& child) const {
  parent.height = std::max(parent.height, child->height + 1);
  if (parent.height > kExprHeightMax) stream_.error("the expression is nested too deeply");
}

bool ExpressionParser::ends_tuple(std::string_view end_name) const {
  return stream_.is(TokenKind::variable_end) || stream_.is(TokenKind::block_end) ||
         stream_.is_symbol(")") || (!end_name.empty() && stream_.is_name(end_name));
}

ExprPtr ExpressionParser::tuple(bool with_conditional, std::string_view end_name) {
  if (ends_tuple(end_name)) stream_.unexpected();
  return tuple_of(expression(with_conditional), with_conditional, end_name);
}

ExprPtr ExpressionParser::tuple_of(ExprPtr first, bool with_conditional,
                                   std::string_view end_name) {
  if (!stream_.is_symbol(",")) return first;
  auto node = std::make_unique<SequenceExpr>(first->line);
  node->tuple = true;
  cover(*node, first);
  node->items.push_back(std::move(first));
  while (stream_.skip_symbol(",") && !ends_tuple(end_name)) {
    node->items.push_back(expression(with_conditional));
    cover(*node, node->items.back());
  }
  return node;
}

ExprPtr ExpressionParser::expression(bool with_conditional) {
  const Nested nested(*this);
  return with_conditional ? conditional() : logic(false);
}

ExprPtr ExpressionParser::conditional() {
  ExprPtr value = logic(false);
  while (stream_.is_name("if")) {
    auto node = std::make_unique<ConditionalExpr>(stream_.next().line);
    cover(*node, value);
    node->then = std::move(value);
    node->condition = logic(false);
    cover(*node, node->condition);
    if (stream_.skip_name("else")) {
      node->otherwise = expression();
      cover(*node, node->otherwise);
    }
    value = std::move(node);
  }
  return value;
}

ExprPtr ExpressionParser::logic(bool all) {
  const std::string_view word = all ? "and" : "or";
  ExprPtr first = all ? negated() : logic(true);
  if (!stream_.is_name(word)) return first;
  auto node = std::make_unique<ListExpr>(ExprKind::logic, all, first->line);
  cover(*node, first);
  node->items.push_back(std::move(first));
  while (stream_.skip_name(word)) {
    node->items.push_back(all ? negated() : logic(true));
    cover(*node, node->items.back());
  }
  return node;
}

ExprPtr ExpressionParser::negated() {
  if (!stream_.is_name("not")) return compare();
  const Nested nested(*this);
  const int line = stream_.next().line;
  auto node = std::make_unique<UnaryExpr>(Operator::negation, negated(), line);
  cover(*node, node->operand);
  return node;
}

ExprPtr ExpressionParser::compare() {
  ExprPtr first = arithmetic(0);
  std::unique_ptr<ChainExpr> chain;
  while (true) {
    const Operator* op = nullptr;
    static constexpr Operator kIn = Operator::in;
    static constexpr Operator kNotIn = Operator::not_in;
    for (const auto& [symbol, comparison] : kComparisons) {
      if (stream_.is_symbol(symbol)) op = &comparison;
    }
    if (stream_.is_name("in")) op = &kIn;
    if (stream_.is_name("not") && stream_.ahead().kind == TokenKind::name &&
        stream_.ahead().text == "in") {
      op = &kNotIn;
      stream_.next();
    }
    if (op == nullptr) break;
    stream_.next();
    if (!chain) {
      chain =
          std::make_unique<ChainExpr>(ExprKind::compare, std::move(first), stream_.current().line);
      cover(*chain, chain->first);
    }
    chain->rest.emplace_back(*op, arithmetic(0));
    cover(*chain, chain->rest.back().second);
  }
  if (chain) return chain;
  return first;
}

ExprPtr ExpressionParser::arithmetic(int level) {
  const auto operand = [&]() -> ExprPtr {
    if (level == 2) return unary(true);
    return level == 0 ? concat() : arithmetic(2);
  };
  ExprPtr first = operand();
  std::unique_ptr<ChainExpr> chain;
  while (true) {
    const OperatorRow* row = nullptr;
    for (const OperatorRow& candidate : kArithmetic) {
      if (candidate.level == level && stream_.is_symbol(candidate.symbol)) row = &candidate;
    }
    if (row == nullptr) break;
    const int line = stream_.next().line;
    if (!chain) {
      chain = std::make_unique<ChainExpr>(ExprKind::arithmetic, std::move(first), line);
      cover(*chain, chain->first);
    }
    chain->rest.emplace_back(row->op, operand());
    cover(*chain, chain->rest.back().second);
  }
  if (chain) return chain;
  return first;
}

ExprPtr ExpressionParser::concat() {
  ExprPtr first = arithmetic(1);
  if (!stream_.is_symbol("~")) return first;
  auto node = std::make_unique<ListExpr>(ExprKind::concat, false, first->line);
  cover(*node, first);
  node->items.push_back(std::move(first));
  while (stream_.skip_symbol("~")) {
    node->items.push_back(arithmetic(1));
    cover(*node, node->items.back());
  }
  return node;
}

ExprPtr ExpressionParser::unary(bool with_filter) {
  ExprPtr node;
  if (stream_.is_symbol("-") || stream_.is_symbol("+")) {
    const Nested nested(*this);
    const Token sign = stream_.next();
    auto operation = std::make_unique<UnaryExpr>(
        sign.text == "-" ? Operator::minus : Operator::plus, unary(false), sign.line);
    cover(*operation, operation->operand);
    node = std::move(operation);
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filter ? filter_chain(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::primary() {
  const Token& token = stream_.current();
  switch (token.kind) {
    case TokenKind::name:
      return name();
    case TokenKind::string: {
      const int line = token.line;
      std::string text;
      while (stream_.is(TokenKind::string)) text += stream_.next().text;
      return std::make_unique<ConstantExpr>(Value::string(plain(std::move(text))), line);
    }
    case TokenKind::integer: {
      const Token number = stream_.next();
      return std::make_unique<ConstantExpr>(Value::wide(number.integer), number.line);
    }
    case TokenKind::real: {
      const Token number = stream_.next();
      return std::make_unique<ConstantExpr>(Value::real(number.real), number.line);
    }
    default:
      break;
  }
  if (stream_.is_symbol("(")) return parenthesised();
  if (stream_.is_symbol("[")) return list();
  if (stream_.is_symbol("{")) return dict();
  stream_.unexpected();
}

ExprPtr ExpressionParser::name() {
  const Token token = stream_.next();
  const auto constant = [&](Value value) {
    return std::make_unique<ConstantExpr>(std::move(value), token.line);
  };
  if (token.text == "true" || token.text == "True") return constant(Value::boolean(true));
  if (token.text == "false" || token.text == "False") return constant(Value::boolean(false));
  if (token.text == "none" || token.text == "None") return constant(Value::none());
  for (MacroUse& macro : macros) {
    macro.varargs = macro.varargs || token.text == "varargs";
    macro.kwargs = macro.kwargs || token.text == "kwargs";
    macro.caller = macro.caller || token.text == "caller";
  }
  return std::make_unique<NameExpr>(names_.id(token.text), token.line);
}

ExprPtr ExpressionParser::parenthesised() {
  const int line = stream_.next().line;
  ExprPtr node;
  if (stream_.is_symbol(")")) {
    auto empty = std::make_unique<SequenceExpr>(line);
    empty->tuple = true;
    node = std::move(empty);
  } else {
    node = tuple();
  }
  stream_.expect_symbol(")");
  return node;
}

ExprPtr ExpressionParser::list() {
  auto node = std::make_unique<SequenceExpr>(stream_.next().line);
  while (!stream_.is_symbol("]")) {
    if (!node->items.empty()) stream_.expect_symbol(",");
    if (stream_.is_symbol("]")) break;
    node->items.push_back(expression());
    cover(*node, node->items.back());
  }
  stream_.expect_symbol("]");
  return node;
}

ExprPtr ExpressionParser::dict() {
  auto node = std::make_unique<DictExpr>(stream_.next().line);
  while (!stream_.is_symbol("}")) {
    if (!node->items.empty()) stream_.expect_symbol(",");
    if (stream_.is_symbol("}")) break;
    ExprPtr key = expression();
    stream_.expect_symbol(":");
    ExprPtr value = expression();
    cover(*node, key);
    cover(*node, value);
    node->items.emplace_back(std::move(key), std::move(value));
  }
  stream_.expect_symbol("}");
  return node;
}

ExprPtr ExpressionParser::postfix(ExprPtr node) {
  while (true) {
    if (stream_.is_symbol(".") || stream_.is_symbol("[")) {
      node = subscript(std::move(node));
    } else if (stream_.is_symbol("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::filter_chain(ExprPtr node) {
  while (true) {
    if (stream_.is_symbol("|")) {
      node = filters(std::move(node), false);
    } else if (stream_.is_name("is")) {
      node = test(std::move(node));
    } else if (stream_.is_symbol("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr object) {
  const Token open = stream_.next();
  ExprPtr node;
  if (open.text == ".") {
    const Token attribute = stream_.next();
    if (attribute.kind == TokenKind::name) {
      auto access = std::make_unique<AttributeExpr>(std::move(object), attribute.text, open.line);
      cover(*access, access->object);
      return access;
    }
    if (attribute.kind != TokenKind::integer) stream_.error("expected name or number");
    auto key = std::make_unique<ConstantExpr>(Value::integer(attribute.integer), open.line);
    node = std::make_unique<ItemExpr>(std::move(object), std::move(key), open.line);
    cover(*node, static_cast<ItemExpr&>(*node).object);
    return node;
  }
  ExprPtr key;
  if (!stream_.is_symbol(":")) key = expression();
  if (stream_.is_symbol(":")) {
    node = slice(std::move(object), std::move(key), open.line);
  } else {
    key = tuple_of(std::move(key), true, {});
    auto item = std::make_unique<ItemExpr>(std::move(object), std::move(key), open.line);
    cover(*item, item->object);
    cover(*item, item->key);
    node = std::move(item);
  }
  stream_.expect_symbol("]");
  return node;
}

ExprPtr ExpressionParser::slice(ExprPtr object, ExprPtr start, int line) {
  auto node = std::make_unique<SliceExpr>(line);
  node->object = std::move(object);
  node->start = std::move(start);
  const auto part = [&](ExprPtr& into) {
    if (!stream_.skip_symbol(":")) return;
    if (!stream_.is_symbol(":") && !stream_.is_symbol("]")) into = expression();
  };
  part(node->stop);
  part(node->step);
  for (const ExprPtr* child : {&node->object, &node->start, &node->stop, &node->step}) {
    if (*child) cover(*node, *child);
  }
  return node;
}

CallArguments ExpressionParser::arguments(Expr& owner) {
  CallArguments result;
  const auto require = [&](bool valid) {
    if (!valid) stream_.error("invalid syntax for function call expression");
  };
  stream_.expect_symbol("(");
  for (bool first = true; !stream_.is_symbol(")"); first = false) {
    if (!first) stream_.expect_symbol(",");
    if (stream_.is_symbol(")")) break;
    ExprPtr* into = nullptr;
    if (stream_.skip_symbol("*")) {
      require(!result.star && !result.double_star);
      into = &result.star;
    } else if (stream_.skip_symbol("**")) {
      require(!result.double_star);
      into = &result.double_star;
    } else if (stream_.is(TokenKind::name) && stream_.ahead().kind == TokenKind::symbol &&
               stream_.ahead().text == "=") {
      require(!result.double_star);
      result.named.emplace_back(stream_.next().text, nullptr);
      stream_.next();
      into = &result.named.back().second;
    } else {
      require(!result.star && !result.double_star && result.named.empty());
      into = &result.positional.emplace_back();
    }
    *into = expression();
    cover(owner, *into);
  }
  stream_.expect_symbol(")");
  return result;
}

ExprPtr ExpressionParser::call(ExprPtr callee) {
  auto node =
      std::make_unique<CallExpr>(std::move(callee), CallArguments(), stream_.current().line);
  cover(*node, node->callee);
  node->arguments = arguments(*node);
  return node;
}

ExprPtr ExpressionParser::filters(ExprPtr input, bool start_inline) {
  while (start_inline || stream_.skip_symbol("|")) {
    start_inline = false;
    const Token name = stream_.expect(TokenKind::name, "a filter's name");
    auto node = std::make_unique<FilterExpr>(ExprKind::filter, name.line);
    node->name = name.text;
    node->builtin = find_filter(node->name);
    if (input) cover(*node, input);
    node->input = std::move(input);
    if (stream_.is_symbol("(")) node->arguments = arguments(*node);
    input = std::move(node);
  }
  return input;
}

ExprPtr ExpressionParser::test(ExprPtr input) {
  const int line = stream_.next().line;
  const bool negate = stream_.skip_name("not");
  const Token name = stream_.expect(TokenKind::name, "a test's name");
  auto node = std::make_unique<FilterExpr>(ExprKind::test, line);
  node->name = name.text;
  node->builtin = find_test(node->name);
  cover(*node, input);
  node->input = std::move(input);
  const TokenKind kind = stream_.current().kind;
  const bool starts_value = kind == TokenKind::name || kind == TokenKind::string ||
                            kind == TokenKind::integer || kind == TokenKind::real ||
                            stream_.is_symbol("[") || stream_.is_symbol("{");
  if (stream_.is_symbol("(")) {
    node->arguments = arguments(*node);
  } else if (stream_.is_name("is")) {
    stream_.error("You cannot chain multiple tests with is");
  } else if (starts_value && !stream_.is_name("else") && !stream_.is_name("or") &&
             !stream_.is_name("and")) {
    node->arguments.positional.push_back(postfix(primary()));
    cover(*node, node->arguments.positional.back());
  }
  if (!negate) return node;
  auto negation = std::make_unique<UnaryExpr>(Operator::negation, std::move(node), line);
  cover(*negation, negation->operand);
  return negation;
}

Target ExpressionParser::name_target() {
  const Token token = stream_.expect(TokenKind::name, "a name");
  static constexpr std::string_view kConstants[] = {"true", "false", "none",
                                                    "True", "False", "None"};
  for (const std::string_view constant : kConstants) {
    if (token.text == constant) stream_.error(fmt::format("can't assign to '{}'", constant));
  }
  Target target;
  target.line = token.line;
  target.id = names_.id(token.text);
  return target;
}

Target ExpressionParser::single_target(bool with_namespace) {
  if (stream_.skip_symbol("(")) {
    const Nested nested(*this);
    Target inner = target(with_namespace);
    stream_.expect_symbol(")");
    return inner;
  }
  Target result = name_target();
  if (with_namespace && stream_.skip_symbol(".")) {
    result.attribute = stream_.expect(TokenKind::name, "an attribute's name").text;
  }
  return result;
}

Target ExpressionParser::target(bool with_namespace, std::string_view end_name) {
  Target first = single_target(with_namespace);
  if (!stream_.is_symbol(",")) return first;
  Target all;
  all.line = first.line;
  all.tuple = true;
  all.parts.push_back(std::move(first));
  while (stream_.skip_symbol(",") && !ends_tuple(end_name) && !stream_.is_symbol("=")) {
    all.parts.push_back(single_target(with_namespace));
  }
  return all;
}

}  // namespace chorus::text::jinja
