// The pre-tokenizers of a tokenizer: they cut a text into the pieces that its model sees, one after
// another, each within the pieces of the one before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"
#include "router/text/pipeline/aligned_text.h"
#include "router/text/pipeline/scanners.h"

namespace chorus::text {

struct Piece {
  uint32_t begin, end;  // bytes of the text; never empty
};

// A text and its pieces, in order; bytes between pieces are dropped.
struct Pieces {
  std::string_view text;  // of `written` once a step has rewritten it
  AlignedText written;
  std::vector<Origin> origin;  // of `text`, or empty: not asked for
  std::vector<Piece> pieces;
  bool at_start = false;  // without origins: the text begins where the original does

  std::string_view of(Piece piece) const {
    return text.substr(piece.begin, piece.end - piece.begin);
  }
  bool starts_original(Piece piece) const {
    return origin.empty() ? at_start && piece.begin == 0 : origin[piece.begin].begin == 0;
  }
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void apply(Pieces& pieces) const = 0;
};

// Only cuts: the text stays as it is.
class Cutter : public PreTokenizerStep {
 public:
  // Appends the pieces of `text`, which begins at `base` of the whole.
  virtual void cut(std::string_view text, uint32_t base, std::vector<Piece>& out) const = 0;
  void apply(Pieces& pieces) const final;
};

class PreTokenizer {
 public:
  // `bytes_stay`: a last ByteLevel leaves the bytes as they are, for models that take bytes.
  // Throws modelfile::FileError(corrupt) where a pattern is none.
  PreTokenizer(const std::vector<modelfile::pre_tokenizer::Step>& steps, bool bytes_stay,
               const std::string& source);

  // Cuts `text`; `pieces` is scratch that may be used again.
  void apply(std::string_view text, Pieces& pieces) const;

  // Where all there is to do is to scan: the scanner, and whether numbers are cut off first.
  Scanner lone_scanner() const { return lone_scanner_; }
  bool digits_apart() const { return digits_apart_; }

 private:
  void find_lone_scanner(const std::vector<modelfile::pre_tokenizer::Step>& steps, bool bytes_stay);

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  Scanner lone_scanner_ = nullptr;
  bool digits_apart_ = false;
};

}  // namespace chorus::text
