// A mixture of experts, as the formulas say it: three passes over all chosen (token, expert) pairs,
// with a barrier between them.
#pragma once

#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/operations.h"

namespace chorus::kernels::reference {

// What the passes hand on, a row for each pair: pair t * chosen + i is token t's i-th expert. Used
// by one operation after the other; grown while recording.
struct ExpertsScratch {
  std::vector<float> gate_up, gated, down;
  void reserve(const ExpertsArgs& args);
};

void experts_gate_up(const ExpertsArgs& args, ExpertsScratch& scratch, Share share);
void experts_activation(const ExpertsArgs& args, ExpertsScratch& scratch, Share share);
void experts_down(const ExpertsArgs& args, ExpertsScratch& scratch, Share share);
void experts_sum(const ExpertsArgs& args, const ExpertsScratch& scratch, Share share);

}  // namespace chorus::kernels::reference
