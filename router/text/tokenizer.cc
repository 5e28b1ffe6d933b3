#include "router/text/tokenizer.h"

#include <fmt/format.h>

#include "modelfile/error.h"
#include "router/text/byte_bpe.h"
#include "router/text/sentence_bpe.h"

namespace chorus::text {

std::unique_ptr<Tokenizer> make_tokenizer(const modelfile::Vocabulary& vocabulary) {
  if (vocabulary.model == "gpt2") return std::make_unique<ByteBpe>(vocabulary);
  if (vocabulary.model == "llama") return std::make_unique<SentenceBpe>(vocabulary);
  throw modelfile::FileError(
      modelfile::FileError::Kind::unsupported,
      fmt::format(
          "the vocabulary's kind (tokenizer.ggml.model) is \"{}\"; known are gpt2 and llama",
          vocabulary.model));
}

}  // namespace chorus::text
