#include "modelfile/turn_ends.h"

#include <algorithm>
#include <array>

namespace chorus::modelfile {
namespace {

constexpr std::array<std::string_view, 26> kTurnEnds = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "</s>",
    "<eos>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<turn|>",
    "[e~[",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<end_of_utterance>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
};

}  // namespace

bool is_turn_end(std::string_view token) {
  return std::find(kTurnEnds.begin(), kTurnEnds.end(), token) != kTurnEnds.end();
}

std::vector<int32_t> turn_ends(const std::vector<AddedToken>& added) {
  const auto has = [&](std::string_view text) {
    return std::any_of(added.begin(), added.end(),
                       [&](const AddedToken& token) { return token.content == text; });
  };
  const bool call = has("<|call|>") || has("<|calls|>");
  const bool harmony = call && (has("<|return|>") || has("<|flush|>"));
  const bool gemma4 = has("<|tool_response>");
  std::vector<int32_t> ids;
  for (const AddedToken& token : added) {
    if (!token.special || !is_turn_end(token.content)) continue;
    if (harmony && token.content == "<|end|>") continue;
    if (gemma4 && token.content == "</s>") continue;
    ids.push_back(token.id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace chorus::modelfile
