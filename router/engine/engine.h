// What the rest of the router sees of the engine: hand in a request, hear its tokens, cancel it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "router/shards/link.h"

namespace chorus::engine {

enum class Verdict : uint8_t { go_on, stop };

enum class FinishReason : uint8_t {
  stopped,    // the listener said so: end id, stop string
  length,     // max_tokens or the context is used up
  cancelled,  // by Engine::cancel
  failed,     // the shards are gone; `message` says why
};

// The engine's view of a request's consumer, implemented by router/api with router/text. Calls come
// one at a time, on threads of the engine (each sees what the one before did), and must be quick
// (no blocking, no template, no JSON of size).
class TokenListener {
 public:
  virtual ~TokenListener() = default;
  // The request left the queue: its first step is on its way. Once, also where it is preempted.
  virtual void seated() {}
  // Where the request asked for prompt_logprobs: the prompt's tokens from the second on, with the
  // log-probability that the model gave each, chunk by chunk, all of them before the first accept.
  virtual void prompt(const std::vector<shards::SampledToken>& tokens) { (void)tokens; }
  // The next token of the sequence. After `stop` no further token comes.
  virtual Verdict accept(const shards::SampledToken& token) = 0;
  // Comes after accept, once the step's tokens are with all listeners: what many have in common
  // (waking a thread) is done once.
  virtual void flush() {}
  // False while the consumer is behind: the sequence then leaves the plans, keeps its blocks until
  // others need them, and comes back when this is true again and Engine::wake() was called. The
  // token that is being sampled already is still accepted: leave room for one more.
  virtual bool ready() const { return true; }
  // Once, at the end, after the last accept. `message` only with `failed`. (What they
  // throw is logged and fails this request alone.)
  virtual void finished(FinishReason reason, const std::string& message) = 0;
};

struct GenerationRequest {
  std::vector<int32_t> prompt;  // not empty, shorter than the context
  shards::Sampling sampling;
  int64_t max_tokens = 0;                   // >= 1; the engine ends earlier where the context ends
  bool prompt_logprobs = false;             // with sampling.top_logprobs alternatives each
  std::shared_ptr<TokenListener> listener;  // not null; let go on a thread of the engine
};

enum class Admission : uint8_t { accepted, queue_full, not_ready, draining };

struct EngineStats {               // for /metrics and /health
  int64_t queued = 0;              // requests waiting for a seat
  int64_t running = 0;             // sequences seated
  int64_t running_tokens = 0;      // that they hold in the KV cache
  int64_t running_tokens_max = 0;  // and may come to hold: their prompts and max_tokens
  int64_t kv_blocks = 0;           // over all groups
  int64_t kv_blocks_used = 0;
  int64_t steps = 0;
  int64_t prefill_steps = 0, decode_steps = 0;  // with prompts, with decodes; one may be both
  int64_t preempted = 0;                        // sequences that gave their seat to others
  int64_t prefill_tokens = 0, decode_tokens = 0;
  int64_t step_us_sum = 0;  // the shards' own timing
};

// Thread-safe handle; the work happens on the engine's threads.
class Engine {
 public:
  using RequestId = uint64_t;
  struct Submitted {
    Admission admission = Admission::not_ready;
    RequestId id = 0;
  };
  virtual ~Engine() = default;
  // Decides at once whether the request is let in (a bounded count of queued and running ones).
  virtual Submitted submit(GenerationRequest request) = 0;
  virtual void cancel(RequestId id) = 0;  // unknown ids are ignored: it may have ended already
  virtual void wake() = 0;                // some listener is ready again
  virtual EngineStats stats() const = 0;
  virtual int64_t context_max() const = 0;  // prompt and output; less if the KV blocks hold less
  virtual int64_t vocab_size() const = 0;
  virtual int top_logprobs_max() const = 0;
};

}  // namespace chorus::engine
