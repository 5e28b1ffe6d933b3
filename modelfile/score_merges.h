// The merges that a vocabulary without merges implies. Such a vocabulary has a score (or simply a
// place) for each piece: two neighbours join where their joined text is a piece, the best piece
// first. Hugging Face's converters write that out as a list of merges, each way to cut a piece in
// two being one; the ranks here are the places in those lists.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

struct RankedPiece {
  int32_t id = 0;
  std::string_view text;  // texts are distinct; they outlive the call
  double score = 0;       // a number
};

enum class MergeOrder : uint8_t {
  best_score,          // of the ways to make a piece, those with the longer left part first
  best_score_then_id,  // the shorter left part first
  lowest_id,           // the shorter left part first
  token_rank,          // by the id of the left part, then of the right one: tiktoken's converter
};

// `pieces` are sorted by id.
std::vector<BpeMerge> implied_merges(const std::vector<RankedPiece>& pieces, MergeOrder order);

}  // namespace chorus::modelfile
