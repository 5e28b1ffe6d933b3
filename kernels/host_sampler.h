// The sample operation for backends whose logits lie in host memory. Workers and ranks each look at
// their part of a row; what they found is exchanged in up to four rounds: the best tokens; sums of
// probabilities; the tokens of rows drawn by their place in that sum; whole rows, which only a
// large top_k or a wide nucleus needs. Every rank then holds the same results from the same data,
// and nothing needs to be sent afterwards.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/collective.h"
#include "kernels/ops.h"

namespace chorus::kernels {

class HostSampler {
 public:
  // `collective`: nullptr for a group of one. Slices of the vocabulary stand in the order of ranks.
  HostSampler(const SampleArgs& args, Collective* collective);

  // Called by all workers together, which have met at a barrier before it; they have to meet again
  // behind it. Throws where a row's logits are not numbers.
  void run(int worker, Collective::Workers& workers);

 private:
  // What a part of a row knows, and what the whole row knows after an exchange.
  struct Finding {
    Candidates candidates;
    Candidate forced;  // id -1 where the forced token is not in this part
  };
  struct Masses {
    Mass model;     // at temperature 1
    Mass tempered;  // at the row's temperature, where its draw needs it
  };
  struct Row {
    Draw draw;
    Finding finding;
    Masses masses;
    Candidate chosen;
  };
  struct Turn {  // one worker's call of run
    int worker;
    Collective::Workers& workers;
    int64_t rows;
  };

  void size_for(const Turn& turn);
  void find_best(const Turn& turn);
  void sum_masses(const Turn& turn);
  void draw(const Turn& turn);
  void draw_by_mass(const Turn& turn);
  void draw_from_whole_rows(const Turn& turn);
  void report(const Turn& turn);

  const SamplingParams& params(int64_t row) const;
  const float* slice(int64_t row) const;
  int64_t slice_size() const { return args_.vocab.size(); }
  template <class T>
  void exchange(std::vector<T>& all, std::vector<T>& own, const Turn& turn);

  SampleArgs args_;
  Collective* collective_;  // nullptr for a group of one
  int ranks_;
  int rank_;
  std::vector<Row> rows_;
  // [workers, rows], [rows] of this rank, [ranks, rows]
  std::vector<Finding> part_findings_, own_findings_, all_findings_;
  std::vector<Masses> part_masses_, own_masses_, all_masses_;
  std::vector<Candidate> own_drawn_, all_drawn_;
  std::vector<float> whole_row_;  // [vocab_size]: one row put together from all ranks
};

}  // namespace chorus::kernels
