// The loop that feeds plans to a Link: one Planner, and two threads that take turns with it.
// Requests come in by post to the driver's own, results on the link's; one step is always ahead
// (step k+1 is sent before the result of step k is here).
#pragma once

#include <functional>
#include <memory>

#include "router/engine/engine.h"

namespace chorus::engine {

struct EngineOptions {
  int64_t concurrent_requests_max = 128;  // queued and running; beyond: Admission::queue_full
  int64_t prefill_tokens_max = 512;       // token budget of a step's prefill part
  int64_t batch_size_max = 0;             // sequences a step; 0: the shard's slots
};

class Driver {
 public:
  // Starts the driver's thread and the link. `on_lost` is called once, on that thread, when the
  // link is gone or answers what was not asked (every request has been failed by then).
  static std::unique_ptr<Driver> start(std::unique_ptr<shards::Link> link,
                                       const shards::ShardInfo& info, const EngineOptions& options,
                                       std::function<void(std::string)> on_lost);
  // Cancels what still runs, then joins. Not from a callback or a listener.
  virtual ~Driver() = default;
  virtual Engine& engine() = 0;
  // From now on submit answers `draining`; `done` is called on the driver's thread once nothing is
  // queued or running.
  virtual void drain(std::function<void()> done) = 0;
};

}  // namespace chorus::engine
