// Statements, and the token stream of the parser.
#include "router/text/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "router/text/jinja/parser_state.h"

namespace chorus::text::jinja {

Token TokenStream::next() {
  const Token token = current();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool TokenStream::is_name(std::string_view name) const {
  return is(TokenKind::name) && current().text == name;
}

bool TokenStream::is_symbol(std::string_view symbol) const {
  return is(TokenKind::symbol) && current().text == symbol;
}

bool TokenStream::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

bool TokenStream::skip_symbol(std::string_view symbol) {
  if (!is_symbol(symbol)) return false;
  next();
  return true;
}

Token TokenStream::expect(TokenKind kind, const char* what) {
  if (!is(kind)) error(fmt::format("expected {}", what));
  return next();
}

void TokenStream::expect_name(std::string_view name) {
  if (!skip_name(name)) error(fmt::format("expected '{}'", name));
}

void TokenStream::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) error(fmt::format("expected '{}'", symbol));
}

void TokenStream::error(const std::string& message) const {
  throw SyntaxError(message, current().line);
}

void TokenStream::unexpected() const {
  switch (current().kind) {
    case TokenKind::end:
      error("unexpected end of the template");
    case TokenKind::block_end:
    case TokenKind::variable_end:
      error("expected an expression before the end of the tag");
    default:
      error(fmt::format("unexpected '{}'", current().text));
  }
}

int Names::id(const std::string& name) {
  const auto [found, added] = ids_.emplace(name, static_cast<int>(names_.size()));
  if (added) names_.push_back(name);
  return found->second;
}

namespace {

class Parser {
 public:
  explicit Parser(std::string_view source)
      : stream_(tokenize(source)), expressions_(stream_, names_) {}

  Program run() {
    Program program;
    program.body = body({});
    program.names = std::move(names_).all();
    return program;
  }

 private:
  using Ends = std::initializer_list<std::string_view>;
  using StatementPtr = std::unique_ptr<Statement>;

  // Parses until a tag named in `ends` (the one that closes last), which stays the current token,
  // or to the template's end where `ends` is empty.
  Body body(Ends ends) {
    const ExpressionParser::Nested nested(expressions_);
    Body statements;
    while (true) {
      const int line = stream_.current().line;
      if (stream_.is(TokenKind::end)) {
        if (ends.size() > 0) {
          stream_.error(
              fmt::format("unexpected end of the template, expected '{}'", *std::prev(ends.end())));
        }
        return statements;
      }
      if (stream_.is(TokenKind::data)) {
        statements.push_back(std::make_unique<TextStatement>(stream_.next().text, line));
      } else if (stream_.is(TokenKind::variable_begin)) {
        stream_.next();
        statements.push_back(std::make_unique<OutputStatement>(expressions_.tuple(), line));
        stream_.expect(TokenKind::variable_end, "end of print statement");
      } else {
        stream_.expect(TokenKind::block_begin, "a tag");
        if (std::any_of(ends.begin(), ends.end(),
                        [&](std::string_view end) { return stream_.is_name(end); })) {
          return statements;
        }
        statement(statements);
        stream_.expect(TokenKind::block_end, "end of statement block");
      }
    }
  }

  // The rest of an opening tag, then the body.
  Body block(Ends ends) {
    stream_.skip_symbol(":");
    stream_.expect(TokenKind::block_end, "end of statement block");
    return body(ends);
  }

  void statement(Body& into) {
    const int line = stream_.current().line;
    if (!stream_.is(TokenKind::name)) stream_.error("tag name expected");
    const std::string tag = stream_.next().text;
    if (tag == "print") return print(into);
    if (StatementPtr node = tagged(tag, line)) {
      into.push_back(std::move(node));
      return;
    }
    throw SyntaxError(fmt::format("unknown or unsupported tag '{}'", tag), line);
  }

  StatementPtr tagged(std::string_view tag, int line) {
    if (tag == "if") return condition(line);
    if (tag == "for") return loop(line);
    if (tag == "set") return set(line);
    if (tag == "macro") return macro(line);
    if (tag == "call") return call(line);
    if (tag == "filter") return filter(line);
    if (tag == "with") return with(line);
    if (tag == "generation") return generation(line);
    if (tag == "break") return jump(StatementKind::break_loop, line);
    if (tag == "continue") return jump(StatementKind::continue_loop, line);
    return nullptr;
  }

  void print(Body& into) {
    while (!stream_.is(TokenKind::block_end)) {
      const int line = stream_.current().line;
      into.push_back(std::make_unique<OutputStatement>(expressions_.expression(), line));
      if (!stream_.is(TokenKind::block_end)) stream_.expect_symbol(",");
    }
  }

  StatementPtr condition(int line) {
    auto node = std::make_unique<IfStatement>(line);
    while (true) {
      ExprPtr test = expressions_.tuple(false);
      node->branches.emplace_back(std::move(test), block({"elif", "else", "endif"}));
      if (stream_.skip_name("elif")) continue;
      if (!stream_.skip_name("endif")) {
        stream_.expect_name("else");
        node->otherwise = block({"endif"});
        stream_.next();
      }
      return node;
    }
  }

  StatementPtr loop(int line) {
    auto node = std::make_unique<ForStatement>(line);
    node->loop_id = names_.id("loop");
    node->target = expressions_.target(false, "in");
    if (assigns(node->target, node->loop_id)) stream_.error("can't assign to the loop variable");
    stream_.expect_name("in");
    node->iterable = expressions_.tuple(false, "recursive");
    if (stream_.skip_name("if")) node->test = expressions_.expression();
    node->recursive = stream_.skip_name("recursive");
    ++loops_;
    node->body = block({"else", "endfor"});
    --loops_;
    if (stream_.next().text == "else") {
      node->otherwise = block({"endfor"});
      stream_.next();
    }
    return node;
  }

  static bool assigns(const Target& target, int id) {
    return (target.id == id && target.attribute.empty()) ||
           std::any_of(target.parts.begin(), target.parts.end(),
                       [&](const Target& part) { return assigns(part, id); });
  }

  StatementPtr set(int line) {
    Target target = expressions_.target(true);
    if (stream_.skip_symbol("=")) {
      auto node = std::make_unique<SetStatement>(line);
      node->target = std::move(target);
      node->value = expressions_.tuple();
      return node;
    }
    auto node = std::make_unique<BlockStatement>(StatementKind::set_block, line);
    node->target = std::move(target);
    node->filter = expressions_.filters(nullptr, false);
    node->body = block({"endset"});
    stream_.next();
    return node;
  }

  StatementPtr filter(int line) {
    auto node = std::make_unique<BlockStatement>(StatementKind::filter_block, line);
    node->filter = expressions_.filters(nullptr, true);
    node->body = block({"endfilter"});
    stream_.next();
    return node;
  }

  StatementPtr with(int line) {
    auto node = std::make_unique<WithStatement>(line);
    while (!stream_.is(TokenKind::block_end)) {
      if (!node->values.empty()) stream_.expect_symbol(",");
      Target target = expressions_.target(false);
      stream_.expect_symbol("=");
      node->values.emplace_back(std::move(target), expressions_.expression());
    }
    node->body = block({"endwith"});
    stream_.next();
    return node;
  }

  StatementPtr generation(int line) {
    auto node = std::make_unique<ScopeStatement>(line);
    node->body = function_body("endgeneration");
    return node;
  }

  StatementPtr jump(StatementKind kind, int line) {
    if (loops_ == 0) stream_.error("break and continue belong into a loop");
    return std::make_unique<JumpStatement>(kind, line);
  }

  // A body that a loop around it cannot be left from.
  Body function_body(std::string_view end) {
    const int outer_loops = std::exchange(loops_, 0);
    Body statements = block({end});
    loops_ = outer_loops;
    stream_.next();
    return statements;
  }

  void signature(MacroStatement& node) {
    stream_.expect_symbol("(");
    while (!stream_.is_symbol(")")) {
      if (!node.parameters.empty()) stream_.expect_symbol(",");
      const std::string name = stream_.current().text;
      node.parameters.emplace_back(expressions_.name_target().id, name);
      if (stream_.skip_symbol("=")) {
        node.defaults.push_back(expressions_.expression());
      } else if (!node.defaults.empty()) {
        stream_.error("non-default argument follows default argument");
      }
    }
    stream_.expect_symbol(")");
  }

  void macro_body(MacroStatement& node, std::string_view end) {
    expressions_.macros.emplace_back();
    node.body = function_body(end);
    const MacroUse use = expressions_.macros.back();
    expressions_.macros.pop_back();
    node.takes_varargs = use.varargs;
    node.takes_kwargs = use.kwargs;
    node.takes_caller = use.caller;
    for (const auto& parameter : node.parameters) {
      if (parameter.second == "varargs") node.takes_varargs = false;
      if (parameter.second == "kwargs") node.takes_kwargs = false;
      if (parameter.second == "caller") node.takes_caller = false;
    }
  }

  StatementPtr macro(int line) {
    auto node = std::make_unique<MacroStatement>(line);
    node->name = stream_.current().text;
    node->id = expressions_.name_target().id;
    signature(*node);
    macro_body(*node, "endmacro");
    return node;
  }

  StatementPtr call(int line) {
    auto node = std::make_unique<CallStatement>(line);
    node->caller = std::make_unique<MacroStatement>(line);
    node->caller->name = "caller";
    if (stream_.is_symbol("(")) signature(*node->caller);
    node->call = expressions_.expression();
    if (node->call->kind != ExprKind::call) stream_.error("expected call");
    macro_body(*node->caller, "endcall");
    return node;
  }

  TokenStream stream_;
  Names names_;
  ExpressionParser expressions_;
  int loops_ = 0;  // around, inside the same macro
};

}  // namespace

Program parse(std::string_view source) {
  return Parser(source).run();
}

}  // namespace chorus::text::jinja
