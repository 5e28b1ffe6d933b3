#include "router/api/text_prompt.h"

#include <algorithm>
#include <utility>

#include "router/api/prompt_jobs.h"
#include "router/text/detokenizer.h"

namespace chorus::api {
// Completions keep parity with the reference tokenizers: control tokens are found in their text.
Task<std::vector<int32_t>> encode_text(Service& service, std::string text, bool add_special) {
  const text::Tokenizer& tokenizer = *service.serving()->tokenizer;
  const size_t bytes = text.size();
  auto job = [&tokenizer, prompt = text::Prompt{std::move(text), {}}, add_special] {
    return tokenizer.encode(prompt, add_special);
  };
  return run_prompt_job(service, bytes, std::move(job));
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
