// Template source → tokens, with Jinja's whitespace rules: trim_blocks and lstrip_blocks are on, as
// transformers sets them; `-` and `+` in tags override; one newline at the very end is dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "router/text/jinja/value.h"
#include "router/text/jinja/wide.h"

namespace chorus::text::jinja {

enum class TokenKind : uint8_t {
  data,
  block_begin,
  block_end,
  variable_begin,
  variable_end,
  name,
  string,
  integer,
  real,
  symbol,  // text holds the operator
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  int line = 1;
  std::string text;  // data, name, string (unescaped), symbol
  Wide integer = 0;
  double real = 0;
};

struct SyntaxError : Failure {
  SyntaxError(const std::string& message, int at_line) : Failure(message), line(at_line) {}
  int line;
};

// Throws SyntaxError. Ends with a token of kind `end`.
std::vector<Token> tokenize(std::string_view source);

}  // namespace chorus::text::jinja
