// The wire shapes of TGI's own routes: one text with details of its tokens, or an event for each
// token of which the last holds the text; and times in the head.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "router/api/answer_parts.h"
#include "router/api/answering.h"
#include "router/text/detokenizer.h"

namespace chorus::api {

struct GenerateFormatting {
  const text::Tokenizer* tokenizer = nullptr;
  std::string prefix = {};  // the prompt, where the full text is asked for
  bool details = false;
  size_t top_n_tokens = 0;
  std::optional<uint64_t> seed = {};  // where it was sampled
  std::vector<int32_t> prompt = {};
  bool prompt_details = false;
  size_t input_characters = 0;
  std::string compute_type = {};
  bool in_list = false;  // `/` answers with a list of one
};

class GenerateWording final : public Wording {
 public:
  explicit GenerateWording(GenerateFormatting format);

  void append_piece(std::string& out, const Piece& piece) override;
  void append_close(std::string& out) override;
  std::vector<HeaderField> stream_headers() const override;
  Response whole(std::span<const Piece> candidates, const Timing& timing) override;

 private:
  std::string token_json(const shards::SampledToken& token, text::Detokenizer& texts) const;
  std::string top_tokens_json(const shards::SampledToken& token) const;
  std::string sequence_json(const Piece& piece) const;  // the fields of details, without braces
  std::string prefill_json(const Piece& piece) const;
  void append_event(std::string& out, const shards::SampledToken* token, const Piece* last);

  const GenerateFormatting format_;
  // Of a stream:
  text::Detokenizer texts_;
  std::string text_;
  int64_t index_ = 0;
};

// x-compute-type of a group of shards with this ShardInfo::backend, as TGI's launcher has it:
// "cpu", or the number of GPUs and their name, "2-nvidia-h200".
std::string compute_type_of(std::string_view backend, int ranks);

std::string_view generate_finish_reason(const End& end);  // "length", "eos_token", "stop_sequence"

// {"error": ..., "error_type": ...} with TGI's statuses.
Response generate_error_response(const Error& error);
// The same as the only event of a stream, as /generate_stream tells it.
Response generate_error_event(const Error& error);

}  // namespace chorus::api
