#include "kernels/host_sampler.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace chorus::kernels {
namespace {

std::byte* bytes(auto& values) {
  return reinterpret_cast<std::byte*>(values.data());
}

}  // namespace

HostSampler::HostSampler(const SampleArgs& args, Collective* collective)
    : args_(args),
      collective_(collective != nullptr && collective->ranks() > 1 ? collective : nullptr),
      ranks_(collective_ != nullptr ? collective_->ranks() : 1),
      own_(static_cast<size_t>(args.logits.rows)) {
  if (collective_ == nullptr) return;
  all_.resize(own_.size() * static_cast<size_t>(ranks_));
  row_.resize(static_cast<size_t>(args.vocab_size));
}

void HostSampler::run(int worker, Collective::Workers& workers) {
  const int64_t rows = args_.logits.live_rows == nullptr
                           ? args_.logits.rows
                           : std::min<int64_t>(*args_.logits.live_rows, args_.logits.rows);
  const auto* params = static_cast<const SamplingParams*>(args_.params.data);
  auto* results = static_cast<Sampled*>(args_.results.data);
  auto* last_tokens = static_cast<int32_t*>(args_.last_tokens.data);
  const auto* logits = static_cast<const float*>(args_.logits.data);
  const int64_t slice = args_.vocab.size();

  for (int64_t row = worker; row < rows; row += workers.count()) {
    own_[static_cast<size_t>(row)] =
        summarize(logits + row * slice, slice, static_cast<int32_t>(args_.vocab.begin),
                  candidates_needed(params[row]));
  }
  workers.barrier();
  if (collective_ == nullptr) {
    for (int64_t row = worker; row < rows; row += workers.count()) {
      results[row] =
          choose(params[row], own_[static_cast<size_t>(row)], logits + row * slice, slice);
      last_tokens[params[row].slot] = results[row].token;
    }
    return;
  }
  const auto size = rows * static_cast<int64_t>(sizeof(LogitSummary));
  collective_->all_gather(bytes(all_), bytes(own_), size, worker, workers);
  for (int64_t row = 0; row < rows; ++row) {
    const bool whole = needs_whole_row(params[row]) || params[row].forced >= 0;
    if (whole) {
      // A row of zeros but for the rank's slice; the sum over ranks puts the row together exactly.
      if (worker == 0) {
        std::fill(row_.begin(), row_.end(), 0.0F);
        std::copy_n(logits + row * slice, slice, row_.begin() + args_.vocab.begin);
      }
      workers.barrier();
      collective_->all_reduce(row_.data(), args_.vocab_size, worker, workers);
    }
    if (worker == 0) {
      std::vector<LogitSummary> of_ranks;
      for (int rank = 0; rank < ranks_; ++rank) {
        of_ranks.push_back(all_[static_cast<size_t>(rank * rows + row)]);
      }
      const auto merged = merge(of_ranks.data(), ranks_, candidates_needed(params[row]));
      results[row] = choose(params[row], merged, whole ? row_.data() : nullptr, args_.vocab_size);
      last_tokens[params[row].slot] = results[row].token;
    }
    workers.barrier();
  }
}

}  // namespace chorus::kernels
