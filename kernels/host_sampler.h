// The sample operation for backends whose logits lie in host memory: each rank summarises its
// slice, the summaries are exchanged, whole rows only where a draw needs them; then every rank
// draws the same token from the same data, so that nothing needs to be sent afterwards.
#pragma once

#include <vector>

#include "kernels/collective.h"
#include "kernels/ops.h"

namespace chorus::kernels {

class HostSampler {
 public:
  // `collective`: nullptr for a group of one.
  HostSampler(const SampleArgs& args, Collective* collective);

  // Called by all workers together, which have met at a barrier before it; they have to meet again
  // behind it.
  void run(int worker, Collective::Workers& workers);

 private:
  SampleArgs args_;
  Collective* collective_;  // nullptr for a group of one
  int ranks_;
  std::vector<LogitSummary> own_, all_;  // [rows], [ranks, rows]
  std::vector<float> row_;               // [vocab_size]: one row put together from all ranks
};

}  // namespace chorus::kernels
