// The wire shapes of chat completions: whole answers and the chunks of a stream, exactly as
// OpenAI's clients read them. Chunks are appended to a buffer by hand: each token pays for them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/generation.h"
#include "router/text/tokenizer.h"

namespace chorus::api {

struct AnswerFacts {
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  std::string model;
  std::string fingerprint;
  const text::Tokenizer* tokenizer = nullptr;
  bool logprobs = false;
  size_t top_logprobs = 0;
  bool include_usage = false;  // in streams
  int64_t prompt_tokens = 0;
};

class ChatAnswer {
 public:
  explicit ChatAnswer(AnswerFacts facts);

  std::string completion(const Piece& whole) const;

  void append_first_chunk(std::string& out) const;  // the role
  void append_piece(std::string& out, const Piece& piece) const;
  void append_end(std::string& out, const End& end) const;  // reason, usage if asked, [DONE]

 private:
  std::string usage(int64_t completion_tokens) const;
  void append_logprobs(std::string& out, const std::vector<shards::SampledToken>& tokens) const;
  void append_logprob(std::string& out, int32_t id, float logprob) const;
  void close_chunk(std::string& out) const;

  AnswerFacts facts_;
  std::string chunk_head_;  // up to the choices' array, its bracket included
};

std::string_view finish_reason(Outcome outcome);  // "stop", "length"

}  // namespace chorus::api
