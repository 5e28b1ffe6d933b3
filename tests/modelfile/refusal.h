// Catches what a reader throws at a wrong file.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "modelfile/error.h"

namespace chorus::test {

struct Refusal {
  modelfile::FileError::Kind kind;
  std::string message;

  bool names(const std::string& text) const { return message.find(text) != std::string::npos; }
};

// Fails the test where nothing is thrown, or something else than a FileError.
template <class Action>
Refusal refusal(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const modelfile::FileError& error) {
    return {error.kind(), error.what()};
  }
  FAIL("a FileError was expected");
  return {};
}

}  // namespace chorus::test
