// A group of tensor-parallel ranks: collectives for the backend's queue, and the plan channel by
// which rank 0 hands the router's messages to the others.
//
// On one host the group shares one memory file that the launcher made and every rank inherited: no
// name, no path, nothing left behind. Its first word counts events and carries the abort flag in
// its lowest bit; who waits sleeps on that word, so that an abort releases everybody at once.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/collective.h"

namespace chorus::comm {

class Communicator : public kernels::Collective {
 public:
  // Rank 0: hands bytes to all other ranks, in order; returns when they are on their way.
  virtual void publish(std::span<const std::byte> bytes) = 0;
  // Ranks 1..: waits for the next bytes of rank 0.
  virtual std::vector<std::byte> receive() = 0;
  // Collectives for one thread per rank, outside a backend's queue.
  void all_gather(std::byte* out, const std::byte* in, int64_t bytes);
  using kernels::Collective::all_gather;
  // True once the group has been aborted; any thread may ask.
  virtual bool lost() const { return false; }
};

std::unique_ptr<Communicator> make_single();

// `group_fd`: the memory file, shared by all ranks (not closed here). `on_lost` is called, on any
// thread, when the group has been aborted; it must not return.
std::unique_ptr<Communicator> make_shared_memory(int group_fd, int rank, int ranks,
                                                 std::function<void()> on_lost);

// Sets the abort flag of a group and wakes all waiters (the launcher does the same when a rank
// dies; this is for a rank that fails by itself).
void abort_group(int group_fd);

}  // namespace chorus::comm
