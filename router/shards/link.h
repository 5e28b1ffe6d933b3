// The contract between planner and shards as plain data (proto/chorus/v1/shard.proto is the same
// on the wire), and the Link over which plans go out and results come back. Nouns:
// docs/glossary.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace chorus::shards {

enum class KvKind : uint8_t { full, sliding };

struct KvGroup {  // layers that share a block table
  KvKind kind = KvKind::full;
  int64_t window = 0;       // sliding: position p sees (p - window, p]
  int64_t block_bytes = 0;  // one block, all layers of the group, this rank
  int64_t blocks = 0;       // after warm-up: the minimum over ranks; 0 before
};

struct ShardInfo {
  std::string model_name;
  std::string backend;  // "cpu avx512-vnni, 2 threads"
  int ranks = 1;
  int64_t vocab_size = 0;
  int64_t context_max = 0;  // positions
  int block_tokens = 0;
  int slots = 0;            // sequences that can be seated at once
  int step_tokens_max = 0;  // token rows a step may hold
  int top_logprobs_max = 0;
  std::vector<KvGroup> kv_groups;
};

struct LogitBias {
  int32_t id = 0;
  float bias = 0;
};

inline constexpr int64_t kAdjustedIdsMax = 4096;  // logit_bias and late_ids of a sequence together

struct Sampling {
  float temperature = 0;  // 0: greedy
  float top_p = 1;
  int top_k = 0;                 // 0: off
  float min_p = 0;               // 0: off
  float typical_p = 1;           // 1: off
  float repetition_penalty = 1;  // 1: off; over prompt and output
  float frequency_penalty = 0;   // over the output
  float presence_penalty = 0;
  std::vector<LogitBias> logit_bias = {};  // sorted by id, ids differ
  int64_t min_tokens = 0;                  // until so many tokens were sampled ...
  std::vector<int32_t> late_ids = {};      // ... these are not (sorted): what ends a text
  uint64_t seed = 0;  // always explicit: the router chooses one where the request does not
  int choice = 0;
  int top_logprobs = 0;  // alternatives to report with each token
};

// Do the tokens so far change what is sampled?
inline bool penalised(const Sampling& sampling) {
  return sampling.repetition_penalty != 1 || sampling.frequency_penalty != 0 ||
         sampling.presence_penalty != 0;
}

// A sequence takes its seat.
struct NewSequence {
  int64_t sequence = 0;  // the router's number for it, for logs and traces
  Sampling sampling;
  // Where it is penalised: all tokens so far, and where the output begins among them. From then on
  // the shard counts by itself what it samples.
  std::vector<int32_t> history = {};
  int64_t output_begin = 0;
};

struct BlockChange {  // to one sequence's table in one KV group
  int group = 0;
  std::vector<int32_t> added;  // appended to the table
  int64_t first_live = 0;      // table entries before this one are given back (sliding windows)
};

struct Row {  // a sequence's part in one step
  int slot = 0;
  std::optional<NewSequence> start;  // the sequence's first row
  // Token ids, or "continue": the token sampled by the step before, which the router may not know.
  std::vector<int32_t> tokens;  // empty: continue
  int64_t position = 0;         // of the first token
  std::vector<BlockChange> block_changes;
  bool sample = false;   // sample after the row's last token
  int output_index = 0;  // of that sample
  // Places within `tokens`, rising: the logprob of the prompt's token behind each is wanted.
  std::vector<int32_t> logprob_positions = {};
  int32_t next_chunk_token = 0;  // what stands behind the last of `tokens`, where that is asked for
  bool continues() const { return tokens.empty(); }
  int64_t token_count() const { return continues() ? 1 : static_cast<int64_t>(tokens.size()); }
};

struct Step {
  uint64_t number = 0;  // 1, 2, 3, ... without gaps
  std::vector<Row> rows;
  std::vector<int> released_slots;  // vacated before the rows are executed
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};

struct SampledToken {
  int32_t id = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;  // best first
};

struct RowResult {
  int slot = 0;
  std::vector<SampledToken> tokens;       // where asked for; one today, several with speculation
  std::vector<SampledToken> prompt = {};  // one for each of the logprob positions
};

struct StepResult {
  uint64_t number = 0;
  std::vector<RowResult> rows;  // of those that asked for a sample or logprobs, in plan order
  int64_t execution_us = 0;
};

struct LoadProgress {
  double fraction = 0;  // 0..1
  std::string what;     // "loading weights"
};

// One group of shards. `send` takes one call at a time, from any thread, also from inside a
// callback. The callbacks come one at a time on a thread of the link's own, which hears nothing
// from the shards meanwhile. After `on_lost` nothing follows.
class Link {
 public:
  struct Callbacks {
    std::function<void(StepResult)> on_result;
    std::function<void(std::string reason)> on_lost;
  };
  virtual ~Link() = default;
  virtual void start(Callbacks callbacks) = 0;
  virtual void send(const Step& step) = 0;
};

}  // namespace chorus::shards
