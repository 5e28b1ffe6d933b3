// chorus-mock-shard: the shard's gRPC service over a stand-in for the model, so that the router can
// be measured alone. It takes the place of chorus-shard at the other end of the router's socket,
// answers each plan after a latency that is given, and knows of the model only which of its tokens
// are plain words: those it samples, in turn, so that every token shows text.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "modelfile/error.h"
#include "modelfile/model.h"
#include "process/child.h"
#include "process/exit_codes.h"
#include "process/log.h"
#include "process/options.h"
#include "process/status_pipe.h"
#include "shard/comm/communicator.h"
#include "shard/service/shard.h"
#include "shard/step/execution.h"

namespace {

using namespace chorus;
using process::ExitCode;
using process::StartError;

constexpr int kBlockTokens = 16;

struct Options {
  std::string model_id;
  int64_t channel_fd = -1, status_fd = -1, parent_pid = 0;
  int64_t step_us = 0, token_us = 0, answer_tokens = 0;
  int64_t slots = 64, prefill_tokens = 512, context = 8192, kv_cache_tokens = 1 << 20;
};

bool parse(Options& o, int argc, char** argv) {
  constexpr double kLatencyMax = 60e6;
  const process::Option table[] = {
      {.name = "model-id",
       .target = &o.model_id,
       .help = "model folder or GGUF file whose vocabulary is used",
       .env = "-"},
      {.name = "step-us",
       .target = &o.step_us,
       .help = "latency of a step, in microseconds",
       .min = 0,
       .max = kLatencyMax,
       .env = "-"},
      {.name = "token-us",
       .target = &o.token_us,
       .help = "and for each token that it computes, in microseconds",
       .min = 0,
       .max = kLatencyMax,
       .env = "-"},
      {.name = "answer-tokens",
       .target = &o.answer_tokens,
       .help = "end every answer by itself after so many tokens; 0: never",
       .min = 0,
       .env = "-"},
      {.name = "max-batch-size",
       .target = &o.slots,
       .help = "sequences seated at once",
       .min = 1,
       .max = 65536,
       .env = "-"},
      {.name = "max-batch-prefill-tokens",
       .target = &o.prefill_tokens,
       .help = "prompt tokens in one step",
       .min = 1,
       .max = 1 << 20,
       .env = "-"},
      {.name = "max-total-tokens",
       .target = &o.context,
       .help = "prompt and output of one request",
       .min = 2,
       .env = "-"},
      {.name = "kv-cache-tokens",
       .target = &o.kv_cache_tokens,
       .help = "positions in the KV cache",
       .min = 16,
       .env = "-"},
      {.name = "channel-fd", .target = &o.channel_fd, .help = "socket to the router", .env = "-"},
      {.name = "status-fd", .target = &o.status_fd, .help = "pipe to the parent", .env = "-"},
      {.name = "parent-pid",
       .target = &o.parent_pid,
       .help = "end when this process ends",
       .env = "-"},
  };
  const process::Program program{"chorus-mock-shard",
                                 "A shard without a model, to measure the router with.", "0"};
  if (!process::parse_options(program, table, argc, argv)) return false;
  if (o.model_id.empty()) throw StartError(ExitCode::usage, "--model-id is missing");
  if (o.channel_fd < 0) throw StartError(ExitCode::usage, "--channel-fd is missing");
  return true;
}

// Tokens of two letters and more, with or without the space that most vocabularies put before.
bool is_word(std::string_view token) {
  for (const std::string_view space : {"\u0120", "\u2581"}) {
    if (token.starts_with(space)) token.remove_prefix(space.size());
  }
  return token.size() >= 2 && std::all_of(token.begin(), token.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
         });
}

std::vector<int32_t> words_of(const modelfile::TokenizerSpec& vocabulary) {
  std::vector<int32_t> words;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (is_word(vocabulary.tokens[id])) words.push_back(static_cast<int32_t>(id));
  }
  if (words.empty()) throw StartError(ExitCode::model_corrupt, "the vocabulary has no plain words");
  return words;
}

class MockExecution final : public step::Execution {
 public:
  MockExecution(const Options& options, const modelfile::TokenizerSpec& vocabulary)
      : options_(options), words_(words_of(vocabulary)), end_(vocabulary.eos.value_or(-1)) {
    if (options.answer_tokens > 0 && end_ < 0) {
      throw StartError(ExitCode::usage, "--answer-tokens: the vocabulary names no end token");
    }
  }

  std::vector<int64_t> allocate_kv(int64_t kv_tokens) override {
    return {(kv_tokens > 0 ? kv_tokens : options_.kv_cache_tokens) / kBlockTokens};
  }

  tl::expected<step::StepResult, std::string> execute(const step::Step& step) override {
    const auto began = std::chrono::steady_clock::now();
    if (step.number != ++number_) {
      return tl::unexpected(fmt::format("step {} came after step {}", step.number, number_ - 1));
    }
    step::StepResult result{.number = step.number, .rows = {}, .execution_us = 0};
    int64_t tokens = 0;
    for (const step::Row& row : step.rows) {
      tokens += row.tokens.empty() ? 1 : static_cast<int64_t>(row.tokens.size());
      if (row.start) alternatives_[row.slot] = row.start->sampling.top_logprobs;
      if (!row.sample && row.logprob_positions.empty()) continue;
      step::RowResult& out = result.rows.emplace_back();
      out.slot = row.slot;
      if (row.sample) out.sampled = sample(row);
      for (const int32_t position : row.logprob_positions)
        out.prompt.push_back(rate(row, position));
    }
    result.execution_us = options_.step_us + tokens * options_.token_us;
    if (result.execution_us > 0) {
      std::this_thread::sleep_until(began + std::chrono::microseconds(result.execution_us));
    }
    return result;
  }

 private:
  int32_t word(int slot, int index) const {
    return words_[(static_cast<size_t>(slot) * 7919 + static_cast<size_t>(index)) % words_.size()];
  }

  kernels::Sampled sample(const step::Row& row) const {
    kernels::Sampled sampled;
    const bool ends = options_.answer_tokens > 0 && row.output_index >= options_.answer_tokens;
    sampled.token = ends ? end_ : word(row.slot, row.output_index);
    sampled.logprob = -0.5F;
    sampled.top_count = alternatives_[row.slot];
    for (int i = 0; i < sampled.top_count; ++i) {
      sampled.top_ids[i] = i == 0 ? sampled.token : word(row.slot, row.output_index + i);
      sampled.top_logprobs[i] = -0.5F - static_cast<float>(i);
    }
    return sampled;
  }

  // The prompt's token behind a place in the row; without alternatives.
  static kernels::Sampled rate(const step::Row& row, int32_t position) {
    const auto next = static_cast<size_t>(position) + 1;
    kernels::Sampled rated;
    rated.token = next < row.tokens.size() ? row.tokens[next] : row.next_chunk_token;
    rated.logprob = -0.5F;
    return rated;
  }

  const Options& options_;
  const std::vector<int32_t> words_;
  const int32_t end_;
  std::vector<int> alternatives_ = std::vector<int>(static_cast<size_t>(options_.slots));
  uint64_t number_ = 0;
};

v1::InfoResponse make_info(const Options& o, const modelfile::Model& model, int64_t vocabulary) {
  v1::InfoResponse info;
  info.set_model_name(model.name());
  info.set_architecture(model.config().architecture());
  info.set_backend("mock");
  info.set_ranks(1);
  info.set_vocab_size(vocabulary);
  info.set_context_max(o.context);
  info.set_block_tokens(kBlockTokens);
  info.set_slots(static_cast<int>(o.slots));
  info.set_step_tokens_max(static_cast<int>(o.prefill_tokens + o.slots));
  info.set_top_logprobs_max(kernels::kTopLogprobsMax);
  info.add_kv_groups()->set_kind(v1::KV_KIND_FULL);
  return info;
}

void run(const Options& o) {
  service::LoadState load;
  const auto shard = service::Shard::start(static_cast<int>(o.channel_fd), load);
  const auto model = modelfile::open_model(o.model_id, /*read_tensors=*/false);
  const modelfile::TokenizerSpec vocabulary = model->tokenizer();
  MockExecution execution(o, vocabulary);
  load.fraction = 1;
  load.loaded = true;
  process::StatusPipe(static_cast<int>(o.status_fd)).ready("mock");
  const auto communicator = comm::make_single();
  shard->serve(execution, *communicator, make_info(o, *model, vocabulary.embedding_rows));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  try {
    if (!parse(o, argc, argv)) return 0;
    process::start_log({.process = "mock shard"});
    if (o.parent_pid > 0) process::die_with_parent(static_cast<int>(o.parent_pid));
    if (o.status_fd >= 0) process::take_inherited(static_cast<int>(o.status_fd), "--status-fd");
    process::take_inherited(static_cast<int>(o.channel_fd), "--channel-fd");
    run(o);
    return 0;
  } catch (const StartError& error) {
    std::fputs(fmt::format("chorus-mock-shard: {}\n", error.what()).c_str(), stderr);
    return static_cast<int>(error.code());
  } catch (const modelfile::FileError& error) {
    std::fputs(fmt::format("chorus-mock-shard: {}\n", error.what()).c_str(), stderr);
    return static_cast<int>(ExitCode::model_corrupt);
  } catch (const std::exception& error) {
    std::fputs(fmt::format("chorus-mock-shard: {}\n", error.what()).c_str(), stderr);
    return static_cast<int>(ExitCode::fault);
  }
}
