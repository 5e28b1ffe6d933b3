// Reads tests/reference/logits_<model>.bin (logits_golden.py describes the format) and holds a
// group of ranks against it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/shard/local_group.h"

namespace chorus::tests {

constexpr int kTop = 64;

struct GoldenPosition {
  int32_t index = 0;
  int32_t ids[kTop];
  float expected[kTop];  // log-probabilities of the float32 reference, best first
  float peer[kTop];      // the peer's, of the same tokens
};
struct GoldenPrompt {
  std::vector<int32_t> ids;
  std::vector<GoldenPosition> positions;
};

inline std::vector<GoldenPrompt> read_golden(const std::string& name) {
  const std::string path =
      std::string(CHORUS_SOURCE_DIR) + "/tests/reference/logits_" + name + ".bin";
  std::ifstream file(path, std::ios::binary);
  const auto word = [&] {
    int32_t value = 0;
    file.read(reinterpret_cast<char*>(&value), sizeof(value));
    return value;
  };
  char magic[4] = {};
  file.read(magic, 4);
  if (std::memcmp(magic, "CLG1", 4) != 0) throw std::runtime_error("cannot read " + path);
  std::vector<GoldenPrompt> prompts(static_cast<size_t>(word()));
  for (auto& prompt : prompts) {
    prompt.ids.resize(static_cast<size_t>(word()));
    prompt.positions.resize(static_cast<size_t>(word()));
    file.read(reinterpret_cast<char*>(prompt.ids.data()),
              static_cast<std::streamsize>(prompt.ids.size() * 4));
    file.read(reinterpret_cast<char*>(prompt.positions.data()),
              static_cast<std::streamsize>(prompt.positions.size() * sizeof(GoldenPosition)));
  }
  if (!file) throw std::runtime_error("cut: " + path);
  return prompts;
}

inline std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(x - top);
  std::vector<double> result(logits.size());
  std::transform(logits.begin(), logits.end(), result.begin(),
                 [&](float x) { return x - top - std::log(sum); });
  return result;
}

// KL(expected || other) over the 64 likeliest tokens and the rest as one more.
inline double divergence(const float* expected, const float* other) {
  double sum = 0, mass = 0, other_mass = 0;
  for (int i = 0; i < kTop; ++i) {
    sum += std::exp(expected[i]) * (expected[i] - other[i]);
    mass += std::exp(expected[i]);
    other_mass += std::exp(other[i]);
  }
  const double rest = std::max(1e-12, 1 - mass), other_rest = std::max(1e-12, 1 - other_mass);
  return sum + rest * std::log(rest / other_rest);
}

struct Comparison {
  int positions = 0;
  double largest_difference = 0;  // of log-probabilities over the reference's top 64
  double mean_divergence = 0, peer_mean_divergence = 0;
  int wrong_first = 0;  // another likeliest token although the reference's leads by > 0.5
};

// Teacher-forced: all prompts side by side, every step takes each to its next golden position.
inline Comparison compare(LocalGroup& group, const std::vector<GoldenPrompt>& prompts) {
  Comparison result;
  std::vector<int64_t> held(prompts.size()), done(prompts.size());
  for (size_t round = 0;; ++round) {
    step::Step step;
    std::vector<size_t> of_row;
    for (size_t p = 0; p < prompts.size(); ++p) {
      if (round >= prompts[p].positions.size()) continue;
      const int64_t next = prompts[p].positions[round].index + 1;
      step::Row row{.slot = static_cast<int>(p),
                    .start = std::nullopt,
                    .tokens = {prompts[p].ids.begin() + done[p], prompts[p].ids.begin() + next},
                    .position = done[p],
                    .block_changes = {},
                    .sample = true};
      if (round == 0) row.start = step::NewSequence{.sequence = p};
      group.add_blocks(row, held[p], next);
      done[p] = next;
      step.rows.push_back(std::move(row));
      of_row.push_back(p);
    }
    if (step.rows.empty()) break;
    group.execute(std::move(step));
    for (size_t row = 0; row < of_row.size(); ++row) {
      const GoldenPosition& golden = prompts[of_row[row]].positions[round];
      const auto ours = log_softmax(group.logits(static_cast<int>(row)));
      float logprobs[kTop];
      for (int i = 0; i < kTop; ++i) {
        logprobs[i] = static_cast<float>(ours[static_cast<size_t>(golden.ids[i])]);
        result.largest_difference =
            std::max<double>(result.largest_difference, std::abs(logprobs[i] - golden.expected[i]));
      }
      const auto first = std::max_element(ours.begin(), ours.end()) - ours.begin();
      result.wrong_first +=
          golden.expected[0] - golden.expected[1] > 0.5F && first != golden.ids[0];
      result.mean_divergence += divergence(golden.expected, logprobs);
      result.peer_mean_divergence += divergence(golden.expected, golden.peer);
      ++result.positions;
    }
  }
  result.mean_divergence /= result.positions;
  result.peer_mean_divergence /= result.positions;
  return result;
}

}  // namespace chorus::tests
