// Plain text as token ids, on the pool where it is long.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/service.h"
#include "router/api/task.h"

namespace chorus::api {

Task<std::vector<int32_t>> encode_text(Service& service, std::string text, bool add_special);

// What ids read as, control tokens included.
std::string decode_ids(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                       bool skip_special_tokens);

// The last ids of a prompt that the answer's text continues, for the detokenizer.
std::vector<int32_t> tail_of(const std::vector<int32_t>& prompt);

}  // namespace chorus::api
