// Any bytes as a SentencePiece model, as tiktoken's lines and as merges.txt: read or refused with
// a FileError, and what is read converts.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "modelfile/error.h"
#include "modelfile/sentencepiece.h"
#include "modelfile/tokenizer_convert.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace chorus::modelfile;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto attempt = [](auto action) {
    try {
      action();
    } catch (const FileError&) {
    }
  };
  attempt([&] {
    const SentencePieceModel model = read_sentencepiece(bytes, "fuzz");
    for (const char* name : {"", "LlamaTokenizer", "GemmaTokenizer", "T5Tokenizer"}) {
      attempt([&] { convert_sentencepiece(model, "fuzz", {.tokenizer_class = name}); });
    }
  });
  attempt([&] { convert_tiktoken(bytes, "fuzz", {}); });
  attempt([&] { convert_vocab_merges(nlohmann::json::object(), bytes, "fuzz", {}); });
  return 0;
}
