// What a sequence brings along when it takes its seat: whether it is sound, and what follows from
// it for the logits of single tokens.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "shard/step/plan.h"

namespace chorus::step {

inline constexpr int64_t kAdjustedIdsMax = 4096;  // logit_bias and late_ids together

// Every number in its range, every id in the vocabulary; otherwise the field's name and value.
tl::expected<void, std::string> check_start(const NewSequence& start, int64_t vocab_size);

// The adjustments that a sound start begins with, by id: its biases, its late tokens and, where
// there are penalties, the tokens so far.
std::vector<kernels::Adjustment> adjustments_of(const NewSequence& start);

}  // namespace chorus::step
