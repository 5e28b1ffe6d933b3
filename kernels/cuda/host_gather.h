// What the ranks of a group tell each other through host memory, when they start.
#pragma once

#include <string>
#include <vector>

#include "kernels/collective.h"

namespace chorus::kernels::cuda {

// Every rank's, in the order of ranks. Returns when all have come.
template <class T>
std::vector<T> gather_on_host(Collective& collective, const T& own) {
  std::vector<T> all(static_cast<size_t>(collective.ranks()));
  OneWorker alone;
  collective.all_gather(reinterpret_cast<std::byte*>(all.data()),
                        reinterpret_cast<const std::byte*>(&own), sizeof(T), 0, alone);
  return all;
}

// The first rank's objection that has one, the same on all ranks; empty where none has.
inline std::string first_objection(Collective& collective, const std::string& own) {
  struct Text {
    char chars[200] = {};
  } text;
  own.copy(text.chars, sizeof(text.chars) - 1);
  int rank = 0;
  for (const Text& objection : gather_on_host(collective, text)) {
    if (objection.chars[0] != 0) return "rank " + std::to_string(rank) + ": " + objection.chars;
    ++rank;
  }
  return "";
}

}  // namespace chorus::kernels::cuda
