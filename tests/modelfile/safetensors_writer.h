// Writes safetensors files for tests, right or wrong on purpose.
#pragma once

#include <string>

#include "tests/modelfile/gguf_writer.h"

namespace chorus::test {

inline std::string safetensors(const std::string& header, const std::string& data) {
  return little_endian(static_cast<uint64_t>(header.size())) + header + data;
}

// Three tensors of the three element types.
inline std::string small_safetensors() {
  return safetensors(R"({"__metadata__":{"format":"pt"},)"
                     R"("norm":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                     R"("embed":{"dtype":"BF16","shape":[3,2],"data_offsets":[8,20]},)"
                     R"("scale":{"dtype":"F16","shape":[],"data_offsets":[20,22]}})",
                     "nnnnnnnneeeeeeeeeeeess");
}

}  // namespace chorus::test
