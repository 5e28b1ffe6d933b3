#include "router/api/text_prompt.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "router/api/asking.h"
#include "router/text/detokenizer.h"

namespace chorus::api {
namespace {

namespace asio = boost::asio;

// Completions keep parity with the reference tokenizers: control tokens are found in their text.
std::vector<int32_t> encode(const text::Tokenizer& tokenizer, std::string text, bool add_special) {
  const text::Prompt prompt{.text = std::move(text), .from_outside = {}};
  return tokenizer.encode(prompt, add_special);
}

// Runs on the pool.
Task<std::vector<int32_t>> encode_there(const text::Tokenizer* tokenizer, std::string text,
                                        bool add_special) {
  co_return encode(*tokenizer, std::move(text), add_special);
}

}  // namespace

Task<std::vector<int32_t>> encode_text(Service& service, std::string text, bool add_special) {
  const text::Tokenizer& tokenizer = *service.serving()->tokenizer;
  if (text.size() <= kPromptBytesInline) co_return encode(tokenizer, std::move(text), add_special);
  auto task = encode_there(&tokenizer, std::move(text), add_special);
  auto ids = co_await asio::co_spawn(service.prompt_pool().get_executor(), std::move(task),
                                     asio::use_awaitable);
  co_return ids;
}

std::string decode_ids(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                       bool skip_special_tokens) {
  text::Detokenizer detokenizer(tokenizer, {.skip_special_tokens = skip_special_tokens});
  std::string text;
  for (const int32_t id : ids) text += detokenizer.push(id).text;
  return text + detokenizer.finish();
}

std::vector<int32_t> tail_of(const std::vector<int32_t>& prompt) {
  constexpr size_t kTail = 8;  // a character has four bytes at most, a byte token holds one
  return {prompt.end() - static_cast<ptrdiff_t>(std::min(kTail, prompt.size())), prompt.end()};
}

}  // namespace chorus::api
