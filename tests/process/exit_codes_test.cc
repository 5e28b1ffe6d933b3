#include "process/exit_codes.h"

#include <catch2/catch.hpp>

using chorus::process::ExitCode;
using chorus::process::StartError;

TEST_CASE("a start error carries its exit code and its text") {
  StartError error(ExitCode::model_missing, "model.gguf: no such file");
  CHECK(static_cast<int>(error.code()) == 66);
  CHECK(std::string(error.what()) == "model.gguf: no such file");
}
