#include "kernels/route.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace chorus::kernels {
namespace {

// The first `count` places of `ids`: the experts of the largest logits, in rising order.
void choose(const float* logits, int64_t experts, int32_t* ids, int64_t count) {
  int64_t held = 0;  // best first
  for (int64_t expert = 0; expert < experts; ++expert) {
    int64_t place = held;
    while (place > 0 && logits[expert] > logits[ids[place - 1]]) --place;
    if (place == count) continue;
    held = std::min(held + 1, count);
    for (int64_t i = held - 1; i > place; --i) ids[i] = ids[i - 1];
    ids[place] = static_cast<int32_t>(expert);
  }
  std::sort(ids, ids + count);
}

}  // namespace

void route_row(const RouteArgs& args, int64_t row) {
  const int64_t experts = args.logits.cols, count = args.experts.cols;
  assert(count >= 1 && count <= experts);
  const float* logits = static_cast<const float*>(args.logits.data) + row * experts;
  int32_t* ids = static_cast<int32_t*>(args.experts.data) + row * count;
  float* weights = static_cast<float*>(args.weights.data) + row * count;
  choose(logits, experts, ids, count);
  if (args.score == RouterScore::sigmoid) {
    for (int64_t i = 0; i < count; ++i) weights[i] = 1 / (1 + std::exp(-logits[ids[i]]));
  } else {
    const float largest = *std::max_element(logits, logits + experts);
    float sum = 0;
    for (int64_t i = 0; i < experts; ++i) sum += std::exp(logits[i] - largest);
    for (int64_t i = 0; i < count; ++i) weights[i] = std::exp(logits[ids[i]] - largest) / sum;
  }
  if (!args.normalised) return;
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += weights[i];
  for (int64_t i = 0; i < count; ++i) weights[i] /= sum;
}

}  // namespace chorus::kernels
