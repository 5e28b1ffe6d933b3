// A GGUF vocabulary as a TokenizerSpec: the kind of vocabulary and the name of its pre-tokenizer
// stand for a whole pipeline, which the original tokenizer.json of such models spells out.
#pragma once

#include <string>

#include "modelfile/model.h"
#include "modelfile/tokenizer_spec.h"

namespace chorus::modelfile {

// `source` is the file's name, for messages. Throws FileError: unsupported where the kind or the
// pre-tokenizer is not known, corrupt where the lists do not fit together.
TokenizerSpec spec_of(const Vocabulary& vocabulary, std::string source);

}  // namespace chorus::modelfile
