// The decoders of a tokenizer. Where each token stands for certain bytes, whatever is around it,
// those bytes are known beforehand; other decoders look at a token's neighbours, and are run step
// by step over the tokens of one sequence as they come.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"

namespace chorus::text {

// One decoder at work in one sequence: tokens go in one by one, and come out, perhaps later.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void push(std::string token, std::vector<std::string>& out) = 0;
  virtual void finish(std::vector<std::string>&) {}
};

// What is needed to make the steps again and again; immutable.
class Decoders {
 public:
  // Throws modelfile::FileError(corrupt) where a pattern is none.
  Decoders(const modelfile::TokenizerSpec& spec);
  ~Decoders();

  // Whether each token stands for bytes of its own.
  bool by_token() const { return by_token_; }
  // Then: the bytes, ...
  std::string bytes_of(const std::string& token) const;
  // ... and whether one space is dropped at the start of a text.
  bool strips_first_space() const { return strips_first_space_; }
  // Characters may be spelled by tokens of one byte each.
  bool has_byte_tokens() const { return has_byte_tokens_; }

  std::vector<std::unique_ptr<DecodeStep>> start() const;

 private:
  struct Compiled;
  void find_shape(const modelfile::TokenizerSpec& spec);

  std::vector<Compiled> steps_;
  bool clean_up_ = false;
  bool by_token_ = false;
  bool strips_first_space_ = false;
  bool has_byte_tokens_ = false;
};

}  // namespace chorus::text
