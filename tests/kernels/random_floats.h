#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace chorus::tests {

// Normally distributed, a function of the seed.
inline std::vector<float> random_floats(int64_t count, uint32_t seed, float spread = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace chorus::tests
