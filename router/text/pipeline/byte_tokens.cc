#include "router/text/pipeline/byte_tokens.h"

#include <algorithm>

namespace chorus::text {
namespace {

int digit_of(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

}  // namespace

ByteTokens::ByteTokens(const std::vector<std::string>& tokens) {
  ids_.fill(-1);
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string& token = tokens[id];
    int byte = byte_of_token(token);
    auto is_lower = [](char digit) { return digit >= 'a' && digit <= 'f'; };
    if (byte < 0 || token[3] == '+' || is_lower(token[3]) || is_lower(token[4])) continue;
    ids_[static_cast<size_t>(byte)] = static_cast<int32_t>(id);
  }
}

bool ByteTokens::spell(std::string_view text) const {
  return std::all_of(text.begin(), text.end(), [&](char byte) { return of(byte) >= 0; });
}

int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int high = token[3] == '+' ? 0 : digit_of(token[3]);
  int low = digit_of(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace chorus::text
