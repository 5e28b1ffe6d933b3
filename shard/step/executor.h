// Executes plans: rows into the fixed buffers, one run of the recorded pass, results out. Decides
// nothing. What it does keep is each sequence's length and block tables, and it holds every plan
// against them: a plan that does not fit is a fault of the router or of the wire, and is refused.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "kernels/ops.h"
#include "shard/comm/communicator.h"
#include "shard/models/decoder.h"
#include "shard/step/execution.h"
#include "shard/step/plan.h"

namespace chorus::step {

struct ExecutorLimits {
  int slots = 0;            // sequences seated at once; also the most rows a step has
  int step_tokens_max = 0;  // token rows of a step
  int64_t context_max = 0;  // positions of a sequence
  int64_t kv_tokens = 0;    // what allocate_kv(0) allocates; 0: from the memory available
};

class Executor final : public Execution {
 public:
  // All references must outlive the executor.
  Executor(kernels::Ops& ops, models::Decoder& decoder, comm::Communicator& communicator,
           const ExecutorLimits& limits);

  // Allocates KV for `kv_tokens` positions in all (0: what is free on the device beside all that
  // the pass takes or, on a CPU, a quarter of the memory that is available, shared among the ranks)
  // and records the pass. Every rank calls it at the same point. Answers with the blocks per group,
  // the minimum over ranks. Throws NotEnoughMemory where not even one sequence of `context_max`
  // fits.
  std::vector<int64_t> allocate_kv(int64_t kv_tokens) override;

  // Bytes of one block per group on this rank.
  std::vector<int64_t> block_bytes() const;

  tl::expected<StepResult, std::string> execute(const Step& step) override;

  // The last step's logits of this rank's vocabulary slice, [wanted, slice]; for tests, where no
  // prompt logprobs were asked for.
  kernels::View logits() const { return buffers_.logits; }

 private:
  struct Table {  // of one sequence in one KV group
    std::vector<int32_t> blocks;
    int64_t first_live = 0;
    int64_t uploaded = 0;  // entries that the device has
  };
  struct Seat {
    bool taken = false;
    kernels::SamplingParams params;  // but for what changes from row to row
    bool adjusted_for_good = false;  // beyond min_tokens as well
    int64_t length = 0;              // positions filled
    bool sampled = false;            // the device holds a token to continue with
    std::vector<Table> tables = {};  // per KV group
  };
  struct Inputs;  // what a step writes to the fixed buffers

  void record(const std::vector<int64_t>& blocks);
  int64_t kv_bytes_available();
  tl::expected<void, std::string> check(const Step& step) const;
  tl::expected<void, std::string> take_seat(const Row& row, Seat& seat);
  tl::expected<void, std::string> apply(const Row& row, Inputs& inputs);
  tl::expected<void, std::string> change_blocks(const Row& row, Seat& seat);
  tl::expected<void, std::string> ask_for_logprobs(const Row& row, Inputs& inputs);
  void upload(const Inputs& inputs);
  void upload_wanted(std::span<const int32_t> wanted,
                     std::span<const kernels::SamplingParams> params);
  template <class T>
  void write(kernels::View view, std::span<T> values);
  std::vector<kernels::Sampled> sample_results(size_t count);
  std::vector<kernels::Sampled> find_prompt_logprobs(const Inputs& inputs);

  kernels::Ops& ops_;
  models::Decoder& decoder_;
  comm::Communicator& communicator_;
  ExecutorLimits limits_;
  models::StepLimits step_limits_;
  models::StepBuffers buffers_;
  std::vector<std::unique_ptr<kernels::KvStore>> kv_;
  models::Programs programs_;
  std::vector<Seat> seats_;
  uint64_t last_number_ = 0;
};

}  // namespace chorus::step
