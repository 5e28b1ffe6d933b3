#include "kernels/cuda/cublaslt.h"

#include <catch2/catch.hpp>

namespace chorus::tests {

TEST_CASE("a backend without cuBLASLt says so and goes on") {
  std::string why_none;
  CHECK(kernels::cuda::CublasLt::load(why_none) == nullptr);
  CHECK(why_none.find("cuBLASLt") != std::string::npos);
}

}  // namespace chorus::tests
