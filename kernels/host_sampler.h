// The sample operation for backends whose logits lie in host memory. Workers and ranks each look at
// their part of a row; what they found is exchanged in up to six rounds: the best tokens, of
// adjusted rows both as the model has them and as the draw sees them; sums of probabilities; the
// tokens of rows drawn by their place in that sum; whole rows, which only a large top_k or a wide
// nucleus needs; the model's logits of adjusted rows' tokens. Every rank then holds the same
// results from the same data, and nothing needs to be sent afterwards.
//
// Adjusted tokens are taken out of their row (-inf in their place) while the row is looked at, and
// added to what was found, once as the model has them and once adjusted: a row is passed over as
// often as one without adjustments, and what they cost is in proportion to their number.
#pragma once

#include <cstdint>
#include <span>
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
  struct Adjusted {  // tokens of this rank's slice
    std::vector<int32_t> ids;
    std::vector<float> model;  // their logits as the model has them
    std::vector<float> drawn;  // as the draw sees them
  };
  struct Row {
    Draw draw;
    Finding finding;    // what the draw sees
    Candidates model;   // of an adjusted row: without the adjustments
    Adjusted adjusted;  // taken out of the slice
    Masses masses;
    Candidate chosen;
  };
  struct Turn {  // one worker's call of run
    int worker;
    Collective::Workers& workers;
    int64_t rows;
  };

  void size_for(const Turn& turn);
  void take_out_adjusted(const Turn& turn);
  void find_best(const Turn& turn);
  void add_adjusted(int64_t row);
  void put_in(int64_t row, const std::vector<float>& logits);
  Mass tempered_mass(int64_t row, const float* logits, int64_t count) const;
  void sum_masses(const Turn& turn);
  void draw(const Turn& turn);
  void draw_by_mass(const Turn& turn);
  void take_drawn(const Turn& turn);
  void draw_from_whole_rows(const Turn& turn);
  void find_model_logits(const Turn& turn);
  void report(const Turn& turn);
  void count_drawn(int slot, int32_t token);

  const SamplingParams& params(int64_t row) const;
  bool adjusted(int64_t row) const;
  bool any_adjusted(const Turn& turn) const;
  const Candidates& model_candidates(int64_t row) const;
  std::span<Adjustment> adjustments(int slot) const;
  float* slice(int64_t row) const;
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
  std::vector<Candidates> own_model_, all_model_;  // of adjusted rows
  std::vector<Masses> part_masses_, own_masses_, all_masses_;
  std::vector<Candidate> own_drawn_, all_drawn_;
  std::vector<float> whole_row_;  // [vocab_size]: one row put together from all ranks
};

}  // namespace chorus::kernels
