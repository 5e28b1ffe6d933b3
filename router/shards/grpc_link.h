// The client side of the contract: a connected socket to rank 0.
#pragma once

#include <functional>
#include <memory>

#include "process/exit_codes.h"
#include "router/shards/link.h"

namespace chorus::shards {

// The shard ended before it was ready: why, it has told the launcher itself.
class ShardGone : public process::StartError {
 public:
  using StartError::StartError;
};

class Client {
 public:
  // `channel_fd`: a connected stream socket; owned from now on.
  static std::unique_ptr<Client> connect(int channel_fd);
  virtual ~Client() = default;

  // Waits until the model is loaded and the KV cache allocated, reporting progress meanwhile.
  // Throws process::StartError: unavailable where the KV cache does not fit, fault when the shard
  // does not answer, ShardGone when it has ended. Returns early, with nothing filled in, once
  // `cancelled` says so.
  virtual ShardInfo wait_until_ready(const std::function<void(LoadProgress)>& progress,
                                     const std::function<bool()>& cancelled) = 0;
  // The plan stream; at most one. The client must outlive the link.
  virtual std::unique_ptr<Link> open_link() = 0;
};

}  // namespace chorus::shards
