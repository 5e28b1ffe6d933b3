// Any bytes as a GGUF file: refused by a FileError, or read through and through.
#include <cstddef>
#include <cstdint>
#include <span>

#include "modelfile/error.h"
#include "modelfile/gguf.h"
#include "modelfile/gguf_model.h"

namespace {

using namespace chorus::modelfile;

template <class Action>
void attempt(Action&& action) {
  try {
    action();
  } catch (const FileError&) {  // the only thing that may come out
  }
}

void read_all(const Gguf& gguf) {
  for (const auto& entry : gguf.values()) {
    const std::string& key = entry.first;
    attempt([&] { gguf.find_integer(key); });
    attempt([&] { gguf.find_number(key); });
    attempt([&] { gguf.find_flag(key); });
    attempt([&] { gguf.find_text(key); });
    attempt([&] { gguf.find_integers(key); });
    attempt([&] { gguf.find_floats(key); });
    attempt([&] { gguf.find_texts(key); });
  }
  attempt([&] { gguf_vocabulary(gguf); });
  attempt([&] { gguf_generation_defaults(gguf); });
  attempt([&] { gguf_config(gguf)->integer("", ".block_count"); });
  volatile unsigned sum = 0;
  for (const Tensor& tensor : gguf.tensors()) {
    for (const std::byte byte : tensor.data) sum = sum + static_cast<unsigned>(byte);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  attempt([&] {
    const auto input = std::as_bytes(std::span(bytes, size));
    read_all(parse_gguf(input, "input"));
  });
  return 0;
}
