// Runs a model without a server: how long it takes to load, to take a prompt in, and to decode, on
// the CPU or a GPU. Prints one JSON line a figure.
//
//   decode_bench --help
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/synthetic_model.h"
#include "kernels/ops.h"
#include "modelfile/model.h"
#include "shard/comm/communicator.h"
#include "shard/models/decoder.h"
#include "shard/step/executor.h"

namespace {

using namespace chorus;
using Clock = std::chrono::steady_clock;

constexpr const char* kUsage = R"(decode_bench MODEL [flags]             measures a model
decode_bench --make SHAPE FOLDER       writes a random checkpoint: llama-8b, llama-1b or tiny,
                                       plain or with -fp8 or -gptq behind
  --device cpu|cuda|emulated           where to compute (cpu)
  --operand bf16|f16|f32               what a GPU multiplies in (bf16)
  --kv f16|bf16|fp8|f32                what a GPU keeps keys and values in (f16)
  --deterministic                      one order of sums for all row counts on a GPU
  --batches 1,8,64 --contexts 128      sequences and tokens each when decoding is measured
  --prompts 512                        tokens of the prompts that are measured
  --steps 64                           of decoding, whose median is taken
  --ceiling GB_PER_S                   to show decoding's share of
  --tokens N                           print N greedy tokens of a fixed prompt and measure nothing
)";

struct Options {
  std::string model, device = "cpu", operand = "bf16", kv;
  bool deterministic = false;
  std::vector<int64_t> batches = {1, 8, 64}, contexts = {128}, prompts = {512};
  int64_t steps = 64, tokens = 0;
  double ceiling = 0;  // GB/s
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::optional<kernels::DType> kv_type_of(const std::string& name) {
  if (name.empty()) return std::nullopt;
  if (name == "f16") return kernels::DType::f16;
  if (name == "bf16") return kernels::DType::bf16;
  if (name == "fp8") return kernels::DType::e4m3;
  if (name == "f32") return kernels::DType::f32;
  throw std::invalid_argument("--kv is f16, bf16, fp8 or f32");
}

std::unique_ptr<kernels::Ops> make_ops([[maybe_unused]] const Options& o) {
  if (o.device == "cpu") return kernels::make_cpu_ops({});
  [[maybe_unused]] const kernels::CudaOptions options{
      .operand = o.operand == "f32"   ? kernels::DType::f32
                 : o.operand == "f16" ? kernels::DType::f16
                                      : kernels::DType::bf16,
      .kv = kv_type_of(o.kv),
      .deterministic = o.deterministic};
#ifdef CHORUS_HAS_CUDA
  if (o.device == "cuda") return kernels::make_cuda_ops(options);
#endif
#ifdef CHORUS_HAS_EMULATION
  if (o.device == "emulated") return kernels::make_emulated_ops(options);
#endif
  throw std::invalid_argument("--device " + o.device + " is not in this build");
}

// Sequences that are all in the same state, from the start again for every measurement.
class Run {
 public:
  Run(const Options& options, kernels::Ops& ops, const models::Decoder& decoder,
      step::Executor& executor)
      : options_(options), ops_(ops), decoder_(decoder), executor_(executor) {}

  // One step that brings `tokens` tokens to each of `count` new sequences; gives its seconds.
  double prefill(int64_t count, int64_t tokens, bool sample) {
    step::Step step{.number = ++number_};
    for (int64_t slot = 0; slot < lengths_size(); ++slot)
      step.released_slots.push_back(static_cast<int>(slot));
    lengths_.assign(static_cast<size_t>(count), 0);
    held_.assign(static_cast<size_t>(count), 0);
    next_block_ = 0;
    for (int64_t slot = 0; slot < count; ++slot) {
      step::Row row{.slot = static_cast<int>(slot), .start = step::NewSequence{}};
      for (int64_t i = 0; i < tokens; ++i) {
        row.tokens.push_back(
            static_cast<int32_t>((i * 7919 + slot * 104729 + 13) % decoder_.spec().shape.vocab));
      }
      row.sample = sample;
      extend(row, tokens);
      step.rows.push_back(std::move(row));
    }
    return execute(step);
  }

  // A further chunk of the prompt of every sequence.
  void extend_all(int64_t tokens, bool sample) {
    step::Step step{.number = ++number_};
    for (size_t slot = 0; slot < lengths_.size(); ++slot) {
      step::Row row{.slot = static_cast<int>(slot), .position = lengths_[slot]};
      for (int64_t i = 0; i < tokens; ++i) {
        row.tokens.push_back(
            static_cast<int32_t>((i * 31 + lengths_[slot]) % decoder_.spec().shape.vocab));
      }
      row.sample = sample;
      extend(row, tokens);
      step.rows.push_back(std::move(row));
    }
    execute(step);
  }

  double decode() {
    step::Step step{.number = ++number_};
    for (size_t slot = 0; slot < lengths_.size(); ++slot) {
      step::Row row{.slot = static_cast<int>(slot), .position = lengths_[slot], .sample = true};
      extend(row, 1);
      step.rows.push_back(std::move(row));
    }
    return execute(step);
  }
  int32_t last_token() const { return last_token_; }

 private:
  int64_t lengths_size() const { return std::ssize(lengths_); }
  void extend(step::Row& row, int64_t tokens) {
    const auto slot = static_cast<size_t>(row.slot);
    const int64_t needed =
        (lengths_[slot] + tokens + ops_.block_tokens() - 1) / ops_.block_tokens();
    for (size_t group = 0; group < decoder_.spec().kv_groups.size(); ++group) {
      step::BlockChange change{.group = static_cast<int>(group)};
      for (int64_t i = held_[slot]; i < needed; ++i) {
        change.added.push_back(static_cast<int32_t>(next_block_ + i - held_[slot]));
      }
      if (!change.added.empty()) row.block_changes.push_back(std::move(change));
    }
    next_block_ += std::max<int64_t>(0, needed - held_[slot]);
    held_[slot] = std::max(held_[slot], needed);
    lengths_[slot] += tokens;
  }
  double execute(const step::Step& step) {
    const auto start = Clock::now();
    const auto result = executor_.execute(step);
    if (!result) throw std::runtime_error(result.error());
    const double taken = seconds_since(start);
    for (const auto& row : result->rows) last_token_ = row.sampled.token;
    return taken;
  }

  [[maybe_unused]] const Options& options_;
  kernels::Ops& ops_;
  const models::Decoder& decoder_;
  step::Executor& executor_;
  uint64_t number_ = 0;
  std::vector<int64_t> lengths_, held_;
  int64_t next_block_ = 0;
  int32_t last_token_ = -1;
};

void print(const std::string& kernel, const std::string& shape, double us,
           const std::string& more) {
  fmt::print("{{\"kernel\": \"{}\", \"shape\": \"{}\", \"us_median\": {:.1f}{}}}\n", kernel, shape,
             us, more);
  std::fflush(stdout);
}

void measure_prefill(const Options& o, Run& run, int64_t chunk) {
  for (const int64_t prompt : o.prompts) {
    std::vector<double> taken;
    for (int i = 0; i < 5; ++i) {
      const auto start = Clock::now();
      run.prefill(1, std::min(prompt, chunk), prompt <= chunk);
      for (int64_t done = chunk; done < prompt; done += chunk) {
        run.extend_all(std::min(chunk, prompt - done), done + chunk >= prompt);
      }
      taken.push_back(seconds_since(start));
    }
    const double s = median(taken);
    print("prefill", fmt::format("{} tokens", prompt), s * 1e6,
          fmt::format(", \"tokens_s\": {:.0f}", static_cast<double>(prompt) / s));
  }
}

void measure_decode(const Options& o, Run& run, int64_t chunk, int64_t weights_bytes) {
  for (const int64_t batch : o.batches) {
    for (const int64_t context : o.contexts) {
      const int64_t first = std::max<int64_t>(1, std::min(context, chunk / batch));
      run.prefill(batch, first, first == context);
      for (int64_t done = first; done < context; done += first) {
        run.extend_all(std::min(first, context - done), done + first >= context);
      }
      for (int i = 0; i < 4; ++i) run.decode();
      std::vector<double> taken;
      for (int64_t i = 0; i < o.steps; ++i) taken.push_back(run.decode());
      const double s = median(taken);
      const double gb_s = static_cast<double>(weights_bytes) / s / 1e9;
      std::string more = fmt::format(", \"tokens_s\": {:.1f}, \"weights_gb_s\": {:.0f}",
                                     static_cast<double>(batch) / s, gb_s);
      if (o.ceiling > 0) more += fmt::format(", \"of_ceiling\": {:.3f}", gb_s / o.ceiling);
      print("decode", fmt::format("batch {} context {}", batch, context), s * 1e6, more);
    }
  }
}

void print_tokens(const Options& o, Run& run) {
  run.prefill(1, 64, true);
  std::string tokens = fmt::format("{}", run.last_token());
  for (int64_t i = 1; i < o.tokens; ++i) {
    run.decode();
    tokens += fmt::format(" {}", run.last_token());
  }
  fmt::print("{{\"tokens\": \"{}\"}}\n", tokens);
}

void measure(const Options& o) {
  const auto start = Clock::now();
  const auto model = modelfile::open_model(o.model);
  auto ops = make_ops(o);
  auto spec = models::describe(*model);
  const auto partition = weights::partition(spec.shape, 0, 1);
  auto communicator = comm::make_single();
  models::Decoder decoder(*ops, *model, std::move(spec), partition, false, [](double) {});
  const int64_t batch_max = *std::max_element(o.batches.begin(), o.batches.end());
  const int64_t context_max =
      std::max(*std::max_element(o.contexts.begin(), o.contexts.end()) + o.steps + 64,
               *std::max_element(o.prompts.begin(), o.prompts.end()) + 64);
  const int64_t chunk = std::min<int64_t>(2048, std::max<int64_t>(512, batch_max));
  step::Executor executor(*ops, decoder, *communicator,
                          {.slots = static_cast<int>(batch_max),
                           .step_tokens_max = static_cast<int>(chunk + batch_max),
                           .context_max = context_max});
  executor.allocate_kv((batch_max + 1) * (context_max + 2 * ops->block_tokens()));
  const double loaded = seconds_since(start);
  Run run(o, *ops, decoder, executor);
  run.prefill(1, 64, true);
  print("start", fmt::format("{} on {}", model->name(), ops->description()),
        seconds_since(start) * 1e6,
        fmt::format(", \"load_us\": {:.0f}, \"weights_gb\": {:.2f}", loaded * 1e6,
                    static_cast<double>(decoder.weights_bytes()) / 1e9));
  if (o.tokens > 0) {
    print_tokens(o, run);
    return;
  }
  measure_decode(o, run, chunk, decoder.weights_bytes());
  measure_prefill(o, run, chunk);
}

std::vector<int64_t> numbers(const std::string& list) {
  std::vector<int64_t> all;
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) all.push_back(std::stoll(item));
  if (all.empty()) throw std::invalid_argument("an empty list of numbers");
  return all;
}

Options parse(int argc, char** argv) {
  Options o;
  const auto value = [&](int& i) -> std::string {
    if (i + 1 >= argc) throw std::invalid_argument(std::string(argv[i]) + " needs a value");
    return argv[++i];
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--device")
      o.device = value(i);
    else if (word == "--operand")
      o.operand = value(i);
    else if (word == "--kv")
      o.kv = value(i);
    else if (word == "--deterministic")
      o.deterministic = true;
    else if (word == "--batches")
      o.batches = numbers(value(i));
    else if (word == "--contexts")
      o.contexts = numbers(value(i));
    else if (word == "--prompts")
      o.prompts = numbers(value(i));
    else if (word == "--steps")
      o.steps = std::stoll(value(i));
    else if (word == "--tokens")
      o.tokens = std::stoll(value(i));
    else if (word == "--ceiling")
      o.ceiling = std::stod(value(i));
    else if (word.starts_with("--"))
      throw std::invalid_argument("unknown flag " + word);
    else
      o.model = word;
  }
  if (o.model.empty()) throw std::invalid_argument("which model? decode_bench --help");
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
      fmt::print("{}", kUsage);
      return 0;
    }
    if (argc == 4 && std::strcmp(argv[1], "--make") == 0) {
      bench::write_synthetic_model(argv[3], bench::synthetic_shape(argv[2]));
      return 0;
    }
    measure(parse(argc, argv));
  } catch (const std::exception& error) {
    fmt::print(stderr, "decode_bench: {}\n", error.what());
    return 2;
  }
}
