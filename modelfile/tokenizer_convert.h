// Tokenizers in other files than tokenizer.json, as the tokenizer.json that Hugging Face's
// converters make of them. One reader then serves all, with what tokenizer_config.json adds.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "modelfile/sentencepiece.h"

namespace chorus::modelfile {

// What tokenizer_config.json says about the conversion.
struct ConversionStyle {
  std::string tokenizer_class = {};  // without "Fast"; may be empty
  std::string model_type = {};       // config.json's
  bool legacy = false;               // Llama's: a space before each text between added tokens
  std::optional<bool> add_bos = {}, add_eos = {};
};

// Throw FileError: unsupported, corrupt.
nlohmann::json convert_sentencepiece(const SentencePieceModel& model, const std::string& file_name,
                                     const ConversionStyle& style);
// tiktoken's "base64 rank" lines.
nlohmann::json convert_tiktoken(std::string_view text, const std::string& file_name,
                                const ConversionStyle& style);
// Mistral's tekken.json.
nlohmann::json convert_tekken(const nlohmann::json& tekken, const std::string& file_name);
// GPT-2's vocab.json and merges.txt.
nlohmann::json convert_vocab_merges(const nlohmann::json& vocab, std::string_view merges,
                                    const std::string& file_name, const ConversionStyle& style);

}  // namespace chorus::modelfile
