// The merges that a SentencePiece vocabulary implies. Such a vocabulary has no merges, it has a
// score (or simply a place) for each piece: two neighbours join where their joined text is a
// piece, the best piece first. Hugging Face's converter writes that out as a list of merges, each
// way to cut a piece in two being one; the ranks here are the places in that list.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

struct RankedPiece {
  int32_t id = 0;
  std::string_view text;  // texts are distinct; they outlive the call
  double score = 0;       // a number; the highest joins first
};

// Of the ways to make one piece, those with the longer left part come first.
std::vector<BpeMerge> merges_by_score(const std::vector<RankedPiece>& pieces);

// The lowest id joins first; of the ways to make one piece, those with the shorter left part.
std::vector<BpeMerge> merges_by_id(const std::vector<RankedPiece>& pieces);

}  // namespace chorus::modelfile
