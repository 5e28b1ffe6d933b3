// Merges of a SentencePiece-style BPE as scores. Such a tokenizer joins the neighbours whose joined
// token has the best score; Hugging Face's files list the joins by rank instead. The two are the
// same where every way to join a token is listed, and the ways to one token stand together.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "modelfile/model.h"

namespace chorus::modelfile {

using Merge = std::pair<std::string, std::string>;

// One score a token: minus the rank of its first merge, and less than all of those for tokens
// without merges. Nothing where scores would not choose as the merges do. `kinds` tells the tokens
// that no merge makes: all but the normal and the user-defined ones.
std::optional<std::vector<float>> scores_of(const std::vector<Merge>& merges,
                                            const std::vector<std::string>& tokens,
                                            const std::vector<TokenKind>& kinds);

}  // namespace chorus::modelfile
