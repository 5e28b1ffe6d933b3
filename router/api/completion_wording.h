// The wire shapes of (legacy) completions: text, and log-probabilities as four lists.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/api/answer_parts.h"
#include "router/api/answering.h"
#include "router/text/detokenizer.h"

namespace chorus::api {

struct CompletionFormatting {
  struct Prompt {
    std::string text;          // for echo
    std::vector<int32_t> ids;  // for the echo's log-probabilities, and token ids
  };
  std::vector<Prompt> prompts;
  int64_t n = 1;           // choices shown for each prompt ...
  int64_t candidates = 1;  // ... of so many that were made
  std::optional<int64_t> logprobs = {};
  bool echo = false;
  bool prompt_alone = false;  // max_tokens 0: what was generated is not shown
  bool token_ids = false;
};

class CompletionWording final : public Wording {
 public:
  CompletionWording(AnswerFacts facts, CompletionFormatting format);

  void append_piece(std::string& out, const Piece& piece) override;
  void append_close(std::string& out) override;  // usage if asked, [DONE]
  Response whole(std::span<const Piece> choices, const Timing& timing) override;

 private:
  // Log-probabilities of the tokens shown so far in one choice.
  struct Offsets {
    explicit Offsets(const text::Tokenizer& tokenizer);
    int64_t characters = 0;
    text::Detokenizer text;  // one token at a time
  };
  struct Lists {
    std::string tokens, token_logprobs, top_logprobs, text_offset;
  };

  const CompletionFormatting::Prompt& prompt_of(const Piece& piece) const;
  void append_choice(std::string& out, int64_t index, const Piece& piece, Offsets& offsets,
                     bool first) const;
  void append_logprobs(std::string& out, const Piece& piece, Offsets& offsets, bool first) const;
  void add_prompt(Lists& lists, const Piece& piece, Offsets& offsets) const;
  void add_token(Lists& lists, const shards::SampledToken& token, Offsets& offsets) const;
  std::string top_of(const shards::SampledToken& token) const;
  int64_t shown_tokens(const Piece& piece) const;

  const AnswerFacts facts_;
  const CompletionFormatting format_;
  const std::string chunk_head_;
  std::vector<Offsets> offsets_;  // by choice, in streams
  std::vector<bool> started_;
  int64_t completion_tokens_ = 0;
};

}  // namespace chorus::api
