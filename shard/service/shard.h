// A shard process once its model is loaded: rank 0 serves the router over gRPC and hands every
// message to the other ranks; those follow. One thread executes; gRPC's threads only hand over.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "proto/chorus/v1/shard.pb.h"
#include "shard/comm/communicator.h"
#include "shard/step/execution.h"

namespace chorus::service {

// What Info and Health say; filled in as loading goes on. Thread-safe.
struct LoadState {
  std::atomic<double> fraction = 0;
  std::atomic<bool> loaded = false;
};

class Shard {
 public:
  // The gRPC server over `channel_fd`, a connected socket whose other end the router holds. It
  // answers Health from now on; Info and Warmup wait until serve() is running.
  static std::unique_ptr<Shard> start(int channel_fd, const LoadState& load);
  virtual ~Shard() = default;

  // Executes what the router sends until `stop` is called. Throws std::runtime_error when the
  // router's plan cannot be executed (this process must then end: the group is out of step).
  virtual void serve(step::Execution& execution, comm::Communicator& communicator,
                     const v1::InfoResponse& info) = 0;
  virtual void stop() = 0;  // any thread
};

// Ranks 1..: executes what rank 0 hands over; returns never, throws like serve().
[[noreturn]] void follow(step::Execution& execution, comm::Communicator& communicator);

}  // namespace chorus::service
