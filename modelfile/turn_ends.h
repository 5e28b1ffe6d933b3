// Tokens that end a turn by what they are called. Files often name the base model's end of text as
// eos, and the template's end of turn nowhere.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

bool is_turn_end(std::string_view token);  // "<|im_end|>", "<|eot_id|>", ...

// Of the special tokens among `added`, those that end a turn; sorted. A harmony vocabulary's
// <|end|> ends a message, not the turn, and Gemma 4's </s> nothing.
std::vector<int32_t> turn_ends(const std::vector<AddedToken>& added);

}  // namespace chorus::modelfile
