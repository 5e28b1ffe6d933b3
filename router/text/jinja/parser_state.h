// What the two halves of the parser share: the token stream, the names, the guards against
// templates nested so deeply that recursion would overflow the stack.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "router/text/jinja/ast.h"
#include "router/text/jinja/lexer.h"

namespace chorus::text::jinja {

constexpr int kParserDepthMax = 150;
constexpr int kExprHeightMax = 300;

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next();

  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_name(std::string_view name) const;
  bool is_symbol(std::string_view symbol) const;
  bool skip_name(std::string_view name);
  bool skip_symbol(std::string_view symbol);

  Token expect(TokenKind kind, const char* what);
  void expect_name(std::string_view name);
  void expect_symbol(std::string_view symbol);
  [[noreturn]] void error(const std::string& message) const;
  [[noreturn]] void unexpected() const;

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

class Names {
 public:
  int id(const std::string& name);
  std::vector<std::string> all() && { return std::move(names_); }

 private:
  std::unordered_map<std::string, int> ids_;
  std::vector<std::string> names_;
};

// Which of the special names the macro that is being parsed refers to.
struct MacroUse {
  bool varargs = false, kwargs = false, caller = false;
};

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& stream, Names& names) : stream_(stream), names_(names) {}

  // `a, b` makes a tuple; `end_name` ends one early (`in`, `recursive`).
  ExprPtr tuple(bool with_conditional = true, std::string_view end_name = {});
  ExprPtr expression(bool with_conditional = true);
  // Filters after `| `; `input` is what the first one gets, null in filter blocks.
  ExprPtr filters(ExprPtr input, bool start_inline);
  Target target(bool with_namespace, std::string_view end_name = {});
  Target name_target();

  // Counts nesting; SyntaxError beyond kParserDepthMax.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser);
    ~Nested();
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser& parser_;
  };

  std::vector<MacroUse> macros;  // of the macros around, innermost last

 private:
  ExprPtr conditional();
  ExprPtr logic(bool all);
  ExprPtr negated();
  ExprPtr compare();
  ExprPtr arithmetic(int level);
  ExprPtr concat();
  ExprPtr unary(bool with_filter);
  ExprPtr primary();
  ExprPtr name();
  ExprPtr parenthesised();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr node);
  ExprPtr filter_chain(ExprPtr node);
  ExprPtr subscript(ExprPtr node);
  ExprPtr slice(ExprPtr object, ExprPtr start, int line);
  ExprPtr call(ExprPtr callee);
  ExprPtr test(ExprPtr input);
  ExprPtr tuple_of(ExprPtr first, bool with_conditional, std::string_view end_name);
  bool ends_tuple(std::string_view end_name) const;
  CallArguments arguments(Expr& owner);
  Target single_target(bool with_namespace);
  void cover(Expr& parent, const ExprPtr& child) const;

  TokenStream& stream_;
  Names& names_;
  int depth_ = 0;
};

}  // namespace chorus::text::jinja
