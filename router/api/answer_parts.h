// What answers of OpenAI's routes have in common on the wire. Chunks are appended to a buffer by
// hand: each token pays for them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/generation.h"
#include "router/api/service.h"
#include "router/text/tokenizer.h"

namespace chorus::api {

struct AnswerFacts {
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  std::string model;
  std::string fingerprint;
  const text::Tokenizer* tokenizer = nullptr;
  int64_t prompt_tokens = 0;   // of all prompts
  bool include_usage = false;  // in streams
};

// For a request that is answered now.
AnswerFacts facts_of(const Service& service, std::string_view id_prefix, bool include_usage);

inline constexpr std::string_view kEventHead = "data: ";

// {"id":...,"system_fingerprint":...,
std::string answer_head(const AnswerFacts& facts, std::string_view object);
void append_usage(std::string& out, const AnswerFacts& facts, int64_t completion_tokens);
// What ends a stream: the usage where it is asked for, and [DONE]. `chunk_head`: up to the choices.
void append_stream_end(std::string& out, const AnswerFacts& facts, std::string_view chunk_head,
                       int64_t completion_tokens);
void append_ids(std::string& out, std::span<const int32_t> ids);  // [1,2]
void append_ids(std::string& out, std::span<const shards::SampledToken> tokens);

// The bytes that a token is shown as in logprobs: control tokens by their text.
std::string_view shown_bytes(const text::Tokenizer& tokenizer, int32_t id);

std::string_view finish_reason(const End& end);  // "stop", "length"

}  // namespace chorus::api
