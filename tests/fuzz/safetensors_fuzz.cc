// Any bytes as a safetensors file, and as the index of a sharded model.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "modelfile/error.h"
#include "modelfile/json_file.h"
#include "modelfile/safetensors.h"

using namespace chorus::modelfile;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const auto input = std::as_bytes(std::span(bytes, size));
  volatile unsigned sum = 0;
  try {
    for (const Tensor& tensor : parse_safetensors(input, "input")) {
      for (const std::byte byte : tensor.data) sum = sum + static_cast<unsigned>(byte);
    }
  } catch (const FileError&) {  // the only thing that may come out
  }
  try {
    parse_safetensors_index(as_text(input), "input");
  } catch (const FileError&) {
  }
  return 0;
}
