#include "modelfile/score_merges.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <unordered_map>

namespace chorus::modelfile {
namespace {

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

struct Cut {
  BpeMerge merge;
  double score;
  int32_t left_characters, right_characters;
};

// All ways to cut a piece into two pieces, by the pieces' order, then by the ids of the parts.
std::vector<Cut> all_cuts(const std::vector<RankedPiece>& pieces) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(pieces.size());
  for (const RankedPiece& piece : pieces) ids.emplace(piece.text, piece.id);
  std::vector<Cut> cuts;
  for (const RankedPiece& piece : pieces) {
    const auto first = static_cast<std::ptrdiff_t>(cuts.size());
    const std::string_view text = piece.text;
    const auto characters =
        static_cast<int32_t>(std::count_if(text.begin(), text.end(), begins_character));
    int32_t left_characters = 1;
    for (size_t at = 1; at < text.size(); ++at) {
      if (!begins_character(text[at])) continue;
      const auto left = ids.find(text.substr(0, at));
      const auto right = left == ids.end() ? ids.end() : ids.find(text.substr(at));
      if (right != ids.end()) {
        cuts.push_back({{left->second, right->second, piece.id, 0},
                        piece.score,
                        left_characters,
                        characters - left_characters});
      }
      ++left_characters;
    }
    std::sort(cuts.begin() + first, cuts.end(), [](const Cut& a, const Cut& b) {
      return std::tie(a.merge.left, a.merge.right) < std::tie(b.merge.left, b.merge.right);
    });
  }
  return cuts;
}

}  // namespace

std::vector<BpeMerge> implied_merges(const std::vector<RankedPiece>& pieces, MergeOrder order) {
  std::vector<Cut> cuts = all_cuts(pieces);
  const auto sort = [&](auto before) { std::stable_sort(cuts.begin(), cuts.end(), before); };
  switch (order) {
    case MergeOrder::best_score:
      sort([](const Cut& a, const Cut& b) {
        return std::tie(a.score, a.left_characters, a.right_characters) >
               std::tie(b.score, b.left_characters, b.right_characters);
      });
      break;
    case MergeOrder::best_score_then_id:
      sort([](const Cut& a, const Cut& b) {
        return std::tie(b.score, a.merge.joined, a.left_characters) <
               std::tie(a.score, b.merge.joined, b.left_characters);
      });
      break;
    case MergeOrder::lowest_id:
      sort([](const Cut& a, const Cut& b) {
        return std::tie(a.merge.joined, a.left_characters) <
               std::tie(b.merge.joined, b.left_characters);
      });
      break;
    case MergeOrder::token_rank:
      break;
  }
  std::vector<BpeMerge> merges;
  merges.reserve(cuts.size());
  for (const Cut& cut : cuts) {
    merges.push_back(cut.merge);
    merges.back().rank = static_cast<uint32_t>(merges.size() - 1);
  }
  return merges;
}

}  // namespace chorus::modelfile
