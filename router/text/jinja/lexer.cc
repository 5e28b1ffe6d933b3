// The scanner follows the order of Jinja's rules: outside of tags the nearest opening wins; inside,
// the closing tag is looked for first, but only where all brackets are balanced (`{{ {'a': {}}
// }}`).
#include "router/text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "router/text/jinja/codepoints.h"
#include "router/text/jinja/literals.h"

namespace chorus::text::jinja {
namespace {

constexpr auto npos = std::string_view::npos;

// Only \n, \r\n and \r are line ends; all become \n, and the last one is dropped.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text.push_back(source[i]);
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      text.push_back('\n');
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool name_byte(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalized(source)), source_(text_) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) outside();
    push(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& message) const { throw SyntaxError(message, line_); }

  Token& push(TokenKind kind, std::string_view text) {
    tokens_.push_back(Token{.kind = kind, .line = line_, .text = std::string(text)});
    return tokens_.back();
  }

  // Moves on and counts the lines.
  void advance_to(size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    if (end > at_) line_starting_ = source_[end - 1] == '\n';
    at_ = end;
  }

  bool starts(std::string_view word, size_t at) const {
    return source_.compare(at, word.size(), word) == 0;
  }

  size_t after_space(size_t at) const {
    return at + strip_left(source_.substr(std::min(at, source_.size())), nullptr);
  }

  // Text up to the next opening, then the tag it opens.
  void outside() {
    size_t open = at_;
    while ((open = source_.find('{', open)) != npos && open + 1 < source_.size() &&
           source_[open + 1] != '%' && source_[open + 1] != '{' && source_[open + 1] != '#') {
      ++open;
    }
    if (open == npos || open + 1 >= source_.size()) {
      push(TokenKind::data, source_.substr(at_));
      return advance_to(source_.size());
    }
    const char kind = source_[open + 1];
    const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    text_before(open, sign, kind != '{');
    advance_to(open + (sign == '-' || sign == '+' ? 3 : 2));
    if (kind == '#') return comment();
    if (kind == '%' && raw_begins()) return raw();
    push(kind == '%' ? TokenKind::block_begin : TokenKind::variable_begin, "");
    inside(kind == '%');
  }

  // Emits source[at_, end) as the tag's sign asks: '-' strips it, a block tag alone on its line
  // loses its indentation.
  void text_before(size_t end, char sign, bool strips_line) {
    const std::string_view text = source_.substr(at_, end - at_);
    size_t keep = text.size();
    if (sign == '-') {
      keep = strip_right(text, 0, nullptr);
    } else if (sign != '+' && strips_line) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == npos ? 0 : newline + 1;
      const bool alone = line > 0 || line_starting_;
      if (alone && strip_left(text.substr(line), nullptr) == text.size() - line) keep = line;
    }
    if (keep > 0) push(TokenKind::data, text.substr(0, keep));
    advance_to(end);
  }

  // Behind a closing `%}` or `#}`; `sign` stood before it.
  void close(size_t end, char sign) {
    if (sign == '-') {
      end = after_space(end);
    } else if (sign != '+' && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    advance_to(end);
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == npos) error("Missing end of comment tag");
    close(end + 2, end > at_ ? source_[end - 1] : '\0');
  }

  // At the `raw` of `{% raw %}`: moves behind the tag. The newline after it stays.
  bool raw_begins() {
    size_t at = after_space(at_);
    if (!starts("raw", at)) return false;
    at = after_space(at + 3);
    if (starts("-%}", at)) {
      advance_to(after_space(at + 3));
    } else if (starts("%}", at)) {
      advance_to(at + 2);
    } else {
      return false;
    }
    return true;
  }

  void raw() {
    for (size_t open = at_; (open = source_.find("{%", open)) != npos; ++open) {
      char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
      size_t at = open + 2;
      if (sign == '-' || sign == '+') ++at;
      at = after_space(at);
      if (!starts("endraw", at)) continue;
      at = after_space(at + 6);
      const char end_sign = at < source_.size() ? source_[at] : '\0';
      if (end_sign == '-' || end_sign == '+') ++at;
      if (!starts("%}", at)) continue;
      text_before(open, sign, true);
      return close(at + 2, end_sign);
    }
    error("Missing end of raw directive");
  }

  void inside(bool block) {
    brackets_.clear();
    while (true) {
      if (at_ >= source_.size()) return;  // the parser reports the unexpected end
      if (brackets_.empty() && closes(block)) return;
      token();
    }
  }

  bool closes(bool block) {
    const std::string_view end = block ? "%}" : "}}";
    char sign = '\0';
    size_t at = at_;
    if (source_[at] == '-' || (block && source_[at] == '+')) sign = source_[at++];
    if (!starts(end, at)) return false;
    push(block ? TokenKind::block_end : TokenKind::variable_end, "");
    if (block) {
      close(at + 2, sign);
    } else {
      advance_to(sign == '-' ? after_space(at + 2) : at + 2);
    }
    return true;
  }

  void token() {
    const std::string_view rest = source_.substr(at_);
    if (const size_t space = strip_left(rest, nullptr); space > 0) return advance_to(at_ + space);
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (const size_t length = after_dot ? 0 : float_length(rest); length > 0) {
      push(TokenKind::real, rest.substr(0, length)).real = parse_float(rest.substr(0, length));
      return advance_to(at_ + length);
    }
    if (const size_t length = integer_length(rest); length > 0) return integer(length);
    if (name_byte(rest[0])) {
      const auto end = std::find_if_not(rest.begin(), rest.end(), name_byte);
      const auto length = static_cast<size_t>(end - rest.begin());
      push(TokenKind::name, rest.substr(0, length));
      return advance_to(at_ + length);
    }
    if (rest[0] == '\'' || rest[0] == '"') return string(rest[0]);
    symbol();
  }

  void integer(size_t length) {
    try {
      const std::string_view literal = source_.substr(at_, length);
      push(TokenKind::integer, literal).integer = parse_integer(literal);
    } catch (const Failure& failure) {
      error(failure.what());
    }
    advance_to(at_ + length);
  }

  void string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) error(fmt::format("unexpected char '{}'", quote));
    try {
      push(TokenKind::string, unescape(source_.substr(at_ + 1, end - at_ - 1)));
    } catch (const Failure& failure) {
      error(failure.what());
    }
    advance_to(end + 1);
  }

  void symbol() {
    static constexpr std::array<std::string_view, 26> kSymbols = {
        "**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* found = std::find_if(kSymbols.begin(), kSymbols.end(),
                                     [&](std::string_view one) { return starts(one, at_); });
    if (found == kSymbols.end()) error(fmt::format("unexpected char '{}'", source_[at_]));
    balance((*found)[0]);
    push(TokenKind::symbol, *found);
    advance_to(at_ + found->size());
  }

  void balance(char c) {
    if (c == '(' || c == '[' || c == '{') {
      brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty()) error(fmt::format("unexpected '{}'", c));
      if (brackets_.back() != c) {
        error(fmt::format("unexpected '{}', expected '{}'", c, brackets_.back()));
      }
      brackets_.pop_back();
    }
  }

  const std::string text_;
  const std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string brackets_;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (!is_utf8(source)) throw SyntaxError("the template is not UTF-8", 0);
  return Lexer(source).run();
}

}  // namespace chorus::text::jinja
