// The wire shapes of chat completions: whole answers and the chunks of a stream, exactly as
// OpenAI's clients read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "router/api/answer_parts.h"
#include "router/api/answering.h"

namespace chorus::api {

struct ChatFormatting {
  int64_t choices = 1;
  bool logprobs = false;
  size_t top_logprobs = 0;
  std::string prefix = {};  // stands before each answer's text
  bool token_ids = false;
  std::vector<int32_t> prompt = {};  // with token_ids
};

class ChatWording final : public Wording {
 public:
  ChatWording(AnswerFacts facts, ChatFormatting format);

  void append_start(std::string& out) override;  // the roles
  void append_piece(std::string& out, const Piece& piece) override;
  void append_close(std::string& out) override;  // usage if asked, [DONE]
  Response whole(std::span<const Piece> choices, const Timing& timing) override;

  std::string completion(std::span<const Piece> choices) const;

 private:
  void append_logprobs(std::string& out, const Piece& piece) const;
  void append_logprob(std::string& out, int32_t id, float logprob) const;
  void open_choice(std::string& out, int choice) const;
  void close_chunk(std::string& out) const;

  const AnswerFacts facts_;
  const ChatFormatting format_;
  const std::string chunk_head_;  // up to the first choice
  int64_t completion_tokens_ = 0;
};

}  // namespace chorus::api
