// A group of one rank: every collective is the identity.
#include <cassert>
#include <cstring>

#include "shard/comm/communicator.h"

namespace chorus::comm {
namespace {

class Single final : public Communicator {
 public:
  int rank() const override { return 0; }
  int ranks() const override { return 1; }
  void all_reduce(float*, int64_t, int, Workers&) override {}
  void all_gather(std::byte* out, const std::byte* in, int64_t bytes, int worker,
                  Workers& workers) override {
    if (worker == 0 && out != in) std::memcpy(out, in, static_cast<size_t>(bytes));
    workers.barrier();
  }
  void publish(std::span<const std::byte>) override {}
  std::vector<std::byte> receive() override {
    assert(!"a group of one has no other rank to hear from");
    return {};
  }
};

}  // namespace

void Communicator::all_gather(std::byte* out, const std::byte* in, int64_t bytes) {
  kernels::OneWorker alone;
  all_gather(out, in, bytes, 0, alone);
}

std::unique_ptr<Communicator> make_single() {
  return std::make_unique<Single>();
}

}  // namespace chorus::comm
