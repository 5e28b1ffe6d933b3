// A TokenizerSpec at work: added tokens, normalizer, pre-tokenizer, model, decoders.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "router/text/added_tokens.h"
#include "router/text/pipeline/decode_steps.h"
#include "router/text/pipeline/normalizer.h"
#include "router/text/pipeline/pre_tokenizer.h"
#include "router/text/pipeline/token_model.h"
#include "router/text/tokenizer.h"

namespace chorus::text {

class PipelineTokenizer final : public Tokenizer {
 public:
  // Throws modelfile::FileError where parts of the spec do not fit together.
  explicit PipelineTokenizer(modelfile::TokenizerSpec spec);

  std::vector<int32_t> encode(const Prompt& prompt, bool add_special) const override;
  Encoding encode_with_offsets(const Prompt& prompt, bool add_special) const override;
  std::string_view bytes(int32_t id) const override { return bytes_[static_cast<size_t>(id)]; }
  std::string_view text(int32_t id) const override { return texts_[static_cast<size_t>(id)]; }
  bool is_control(int32_t id) const override { return control_[static_cast<size_t>(id)]; }
  std::string_view control_bytes(int32_t id) const override;
  int32_t size() const override { return static_cast<int32_t>(texts_.size()); }
  const std::vector<int32_t>& end_ids() const override { return end_ids_; }
  std::string_view bos_text() const override { return text_of(spec_.bos); }
  std::string_view eos_text() const override { return text_of(spec_.eos); }
  bool decodes_by_token() const override { return decoders_.by_token(); }
  std::unique_ptr<TokenDecoder> make_decoder(bool skip_special_tokens) const override;
  bool strips_first_space() const override { return decoders_.strips_first_space(); }
  bool has_byte_tokens() const override { return decoders_.has_byte_tokens(); }

 private:
  class Run;      // one encoding
  class Decoder;  // one sequence

  void check_ids() const;
  void read_texts();
  void read_bytes();
  void find_end_ids();
  AddedTokens added_tokens(bool normalized) const;
  std::string_view text_of(std::optional<int32_t> id) const {
    return id ? text(*id) : std::string_view();
  }

  modelfile::TokenizerSpec spec_;  // without the tables that only the model reads
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<TokenModel> model_;
  Decoders decoders_;
  bool needs_origin_ = false;  // to encode, not only for offsets
  AddedTokens raw_added_, normalized_added_;
  std::vector<std::string> texts_, bytes_;
  std::vector<std::string> decoder_texts_;  // as the decoders see them; empty: as texts_
  std::vector<bool> control_;
  std::map<int32_t, std::string> control_bytes_;  // where they are not the text
  std::vector<int32_t> end_ids_;
};

}  // namespace chorus::text
