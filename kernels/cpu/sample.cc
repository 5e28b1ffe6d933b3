// A group of ranks samples with all workers together, as HostSampler is made for. A rank alone need
// not make its workers meet (a meeting waits for the slowest to be given a core): each row has a
// sampler of its own, run by whoever is free.
#include "kernels/cpu/sample.h"

#include <cassert>
#include <memory>
#include <vector>

#include "kernels/host_sampler.h"
#include "kernels/sampling.h"

namespace chorus::kernels {
namespace {

View only_row(const View& view, int64_t row) {
  View one = view;
  one.data = static_cast<std::byte*>(view.data) + row * view.cols * bytes_of(view.type);
  one.rows = 1;
  one.live_rows = nullptr;
  return one;
}

SampleArgs only_row(const SampleArgs& args, int64_t row) {
  SampleArgs one = args;
  one.logits = only_row(args.logits, row);
  one.params = only_row(args.params, row);
  one.results = only_row(args.results, row);
  return one;
}

}  // namespace

Phase sample_phase(const SampleArgs& args, const Backend& backend) {
  assert(args.logits.cols == args.vocab.size());
  if (backend.collective != nullptr) {
    const auto sampler = std::make_shared<HostSampler>(args, backend.collective);
    return gang_phase(backend,
                      [sampler, &backend](int place) { sampler->run(place, backend.workers); });
  }
  const auto samplers = std::make_shared<std::vector<HostSampler>>();
  for (int64_t row = 0; row < args.logits.rows; ++row) {
    samplers->emplace_back(only_row(args, row), nullptr);
  }
  return cut_phase(
      [logits = args.logits] {
        return Cut{live_rows(logits), 1};
      },
      [samplers](int64_t row, int) {
        OneWorker alone;
        (*samplers)[static_cast<size_t>(row)].run(0, alone);
      });
}

}  // namespace chorus::kernels
