// A tensor-parallel group inside one process: every rank is a thread with its own backend, over
// the same shared-memory collectives that processes use. Runs plans without gRPC or a router.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/ops.h"
#include "modelfile/model.h"
#include "shard/comm/communicator.h"
#include "shard/models/decoder.h"
#include "shard/step/executor.h"

namespace chorus::tests {

struct GroupOptions {
  int ranks = 1;
  int threads = 1;  // a rank
  bool reference = false;
  // Another backend than the two, or one of them in a wrapper.
  std::function<std::unique_ptr<kernels::Ops>(const kernels::CpuOptions&)> make_ops = nullptr;
  kernels::Isa isa = kernels::best_isa();
  step::ExecutorLimits limits = {.slots = 32, .step_tokens_max = 1024, .context_max = 512};
  int64_t kv_tokens = 8192;
};

inline std::filesystem::path cached_model(const char* file) {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path cache =
      xdg != nullptr && *xdg != 0 ? xdg : std::filesystem::path(home ? home : "/root") / ".cache";
  return cache / "chorus" / file;
}
inline constexpr const char* kSmolLm2 = "SmolLM2-135M-Instruct.Q4_1.gguf";
inline constexpr const char* kQwen = "Qwen2.5-Coder-0.5B-Instruct.gguf";
inline constexpr const char* kGemma = "gemma-3-270m.Q4_K_M.gguf";

class LocalGroup {
 public:
  LocalGroup(const modelfile::Model& model, const GroupOptions& options)
      : options_(options), fd_(memfd_create("chorus-test", MFD_CLOEXEC)) {
    ranks_.resize(static_cast<size_t>(options.ranks));
    each([&](int r) {
      Rank& rank = ranks_[static_cast<size_t>(r)];
      rank.communicator = options.ranks == 1 ? comm::make_single()
                                             : comm::make_shared_memory(fd_, r, options.ranks,
                                                                        [] { std::abort(); });
      const kernels::CpuOptions cpu{
          .threads = options.threads, .isa = options.isa, .collective = rank.communicator.get()};
      if (options.make_ops) {
        rank.ops = options.make_ops(cpu);
      } else {
        rank.ops =
            options.reference ? kernels::make_reference_ops(cpu) : kernels::make_cpu_ops(cpu);
      }
      auto spec = models::describe(model);
      spec.context_max = std::min(spec.context_max, options.limits.context_max);
      const auto part = weights::partition(spec.shape, r, options.ranks);
      rank.vocab = part.vocab;
      rank.decoder = std::make_unique<models::Decoder>(*rank.ops, model, std::move(spec), part,
                                                       options.ranks > 1, [](double) {});
      rank.executor = std::make_unique<step::Executor>(*rank.ops, *rank.decoder, *rank.communicator,
                                                       options.limits);
      auto blocks = rank.executor->allocate_kv(options.kv_tokens);
      if (r == 0) blocks_ = std::move(blocks);
    });
    next_block_.resize(blocks_.size());
  }
  ~LocalGroup() { close(fd_); }

  int64_t vocab() const { return ranks_.front().decoder->spec().shape.vocab; }
  int block_tokens() const { return ranks_.front().ops->block_tokens(); }
  const std::vector<int64_t>& blocks() const { return blocks_; }

  // Adds to `row` the blocks that its sequence needs to hold `positions` in all, from a counter
  // (blocks are never given back here). `held` is the count of blocks that it has.
  void add_blocks(step::Row& row, int64_t& held, int64_t positions) {
    const int64_t needed = (positions + block_tokens() - 1) / block_tokens();
    if (needed <= held) return;
    for (size_t group = 0; group < blocks_.size(); ++group) {
      step::BlockChange change{.group = static_cast<int>(group), .added = {}};
      for (int64_t i = held; i < needed; ++i) {
        change.added.push_back(static_cast<int32_t>(next_block_[group]++ % blocks_[group]));
      }
      row.block_changes.push_back(std::move(change));
    }
    held = needed;
  }

  // Runs the step on all ranks; throws std::runtime_error with a rank's refusal.
  step::StepResult execute(step::Step step) {
    step.number = ++number_;
    std::vector<step::StepResult> results(ranks_.size());
    each([&](int r) {
      auto result = ranks_[static_cast<size_t>(r)].executor->execute(step);
      if (!result) throw std::runtime_error(result.error());
      results[static_cast<size_t>(r)] = std::move(*result);
    });
    return results.front();
  }

  // Row `wanted` of the last step's logits over the whole vocabulary.
  std::vector<float> logits(int wanted) const {
    std::vector<float> row(static_cast<size_t>(vocab()));
    for (const Rank& rank : ranks_) {
      const int64_t size = rank.vocab.size();
      rank.ops->download(row.data() + rank.vocab.begin, rank.executor->logits(),
                         wanted * size * static_cast<int64_t>(sizeof(float)),
                         size * static_cast<int64_t>(sizeof(float)));
    }
    return row;
  }

 private:
  struct Rank {
    std::unique_ptr<comm::Communicator> communicator;
    std::unique_ptr<kernels::Ops> ops;
    std::unique_ptr<models::Decoder> decoder;
    std::unique_ptr<step::Executor> executor;
    kernels::Range vocab;
  };

  void each(const std::function<void(int)>& work) {
    if (options_.ranks == 1) return work(0);
    std::vector<std::thread> threads;
    std::vector<std::exception_ptr> errors(static_cast<size_t>(options_.ranks));
    for (int r = 0; r < options_.ranks; ++r) {
      threads.emplace_back([&, r] {
        try {
          work(r);
        } catch (...) {
          errors[static_cast<size_t>(r)] = std::current_exception();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    for (auto& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }

  GroupOptions options_;
  int fd_;
  std::vector<Rank> ranks_;
  std::vector<int64_t> blocks_, next_block_;
  uint64_t number_ = 0;
};

}  // namespace chorus::tests
