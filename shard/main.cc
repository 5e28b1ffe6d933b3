// chorus-shard: one rank of a tensor-parallel group. Loads its slice of the weights and executes
// the router's plans. Started by chorus-launcher, which hands it its channels as descriptors.
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include <pthread.h>
#include <unistd.h>

#include "kernels/cuda_ranks.h"
#include "kernels/ops.h"
#include "modelfile/error.h"
#include "modelfile/model.h"
#include "process/child.h"
#include "process/exit_codes.h"
#include "process/log.h"
#include "process/options.h"
#include "process/status_pipe.h"
#include "shard/comm/communicator.h"
#include "shard/models/decoder.h"
#include "shard/service/shard.h"
#include "shard/step/executor.h"
#include "shard/weights/quantisation.h"

namespace {

using namespace chorus;
using process::ExitCode;
using process::StartError;

struct Options {
  std::string model_id, device = "auto", dtype = "auto", cpu_path = "auto", log_level = "info";
  std::string kv_cache_dtype = "auto", quantize;
  int64_t rank = 0, ranks = 1, threads = 0;
  int64_t channel_fd = -1, group_fd = -1, status_fd = -1, parent_pid = 0;
  int64_t kv_cache_tokens = 0, max_batch_size = 0, max_batch_prefill_tokens = 0;
  int64_t max_total_tokens = 0;
  bool json_output = false, deterministic = false;
};

constexpr int kSlots = 64;           // sequences seated at once where --max-batch-size is not given
constexpr int kPrefillTokens = 512;  // of a step where --max-batch-prefill-tokens is not given

bool parse(Options& o, int argc, char** argv) {
  const process::Option table[] = {
      {.name = "model-id", .target = &o.model_id, .help = "model folder or GGUF file"},
      {.name = "rank",
       .target = &o.rank,
       .help = "this shard's rank",
       .min = 0,
       .max = 1023,
       .env = "-"},
      {.name = "ranks",
       .target = &o.ranks,
       .help = "ranks in the group",
       .min = 1,
       .max = 1024,
       .env = "-"},
      {.name = "device",
       .target = &o.device,
       .help = "where to compute",
       .choices = {"auto", "cpu", "cuda"}},
      {.name = "dtype",
       .target = &o.dtype,
       .help = "type of a GPU's weights that are not quantised, and of its products' activations",
       .choices = {"auto", "bfloat16", "float16", "float32"}},
      {.name = "kv-cache-dtype",
       .target = &o.kv_cache_dtype,
       .help = "what a GPU keeps keys and values in",
       .choices = {"auto", "float16", "bfloat16", "fp8_e4m3fn"}},
      {.name = "quantize",
       .target = &o.quantize,
       .help = "how the checkpoint must be quantised; empty: not checked"},
      {.name = "deterministic",
       .target = &o.deterministic,
       .help = "on a GPU too, a request's tokens never depend on its neighbours"},
      {.name = "threads",
       .target = &o.threads,
       .help = "worker threads; 0: one per core",
       .min = 0,
       .max = 1024},
      {.name = "cpu-path",
       .target = &o.cpu_path,
       .help = "instruction set of the CPU backend, which it chooses; reference: plain f32 loops",
       .choices = {"auto", "reference", "scalar", "avx2", "avx512"}},
      {.name = "kv-cache-tokens",
       .target = &o.kv_cache_tokens,
       .help = "positions in the KV cache; 0: from the memory",
       .min = 0},
      {.name = "max-batch-size",
       .target = &o.max_batch_size,
       .help = "sequences seated at once; 0: 64",
       .min = 0,
       .max = 65536},
      {.name = "max-batch-prefill-tokens",
       .target = &o.max_batch_prefill_tokens,
       .help = "prompt tokens in one step; 0: 512",
       .min = 0,
       .max = 1 << 20},
      {.name = "max-total-tokens",
       .target = &o.max_total_tokens,
       .help = "prompt and output of one request; 0: the model's context",
       .min = 0},
      {.name = "json-output", .target = &o.json_output, .help = "log as JSON lines"},
      {.name = "log-level", .target = &o.log_level, .help = "debug, info, warn or error"},
      {.name = "channel-fd",
       .target = &o.channel_fd,
       .help = "socket to the router (rank 0)",
       .env = "-"},
      {.name = "group-fd", .target = &o.group_fd, .help = "memory file of the group", .env = "-"},
      {.name = "status-fd", .target = &o.status_fd, .help = "pipe to the launcher", .env = "-"},
      {.name = "parent-pid",
       .target = &o.parent_pid,
       .help = "end when this process ends",
       .env = "-"},
  };
  const process::Program program{"chorus-shard",
                                 "One rank of a tensor-parallel group; started by chorus-launcher.",
                                 CHORUS_VERSION};
  if (!process::parse_options(program, table, argc, argv)) return false;
  if (o.model_id.empty()) throw StartError(ExitCode::usage, "--model-id is missing");
  if (o.rank >= o.ranks) throw StartError(ExitCode::usage, "--rank must be below --ranks");
  if (o.rank == 0 && o.channel_fd < 0) {
    throw StartError(ExitCode::usage, "--channel-fd is missing: chorus-launcher starts the shards");
  }
  if (o.ranks > 1 && o.group_fd < 0) throw StartError(ExitCode::usage, "--group-fd is missing");
  return true;
}

std::unique_ptr<comm::Communicator> make_communicator(const Options& o) {
  if (o.ranks == 1) return comm::make_single();
  return comm::make_shared_memory(static_cast<int>(o.group_fd), static_cast<int>(o.rank),
                                  static_cast<int>(o.ranks), [] {
                                    process::log_error("another rank of the group is gone");
                                    std::_Exit(static_cast<int>(ExitCode::fault));
                                  });
}

#ifdef CHORUS_HAS_CUDA
std::optional<kernels::DType> kv_type_of(const Options& o) {
  if (o.kv_cache_dtype == "float16") return kernels::DType::f16;
  if (o.kv_cache_dtype == "bfloat16") return kernels::DType::bf16;
  if (o.kv_cache_dtype == "fp8_e4m3fn") return kernels::DType::e4m3;
  return std::nullopt;
}

// Every rank comes to the same answer, since a group computes on GPUs or on CPUs.
void check_gpu_ranks(const Options& o, int devices) {
  if (devices < o.ranks) {
    throw StartError(ExitCode::unavailable, "--num-shard " + std::to_string(o.ranks) +
                                                " needs as many GPUs, there are " +
                                                std::to_string(devices) + "; --num-shard " +
                                                std::to_string(devices) + " or --device cpu works");
  }
  std::string why_not;
  if (o.ranks > 1 && !kernels::cuda_ranks_can_meet(why_not)) {
    throw StartError(ExitCode::unavailable,
                     "several GPUs need NCCL 2, of CUDA 13, where the loader finds it: " + why_not +
                         "; --num-shard 1 or --device cpu works without");
  }
}

std::unique_ptr<kernels::Ops> start_gpu(const Options& o, comm::Communicator& communicator) {
  return kernels::make_cuda_ops(
      {.device = static_cast<int>(o.rank),
       .operand = o.dtype == "float16"   ? kernels::DType::f16
                  : o.dtype == "float32" ? kernels::DType::f32
                                         : kernels::DType::bf16,
       .kv = kv_type_of(o),
       .deterministic = o.deterministic,
       .collective = &communicator},
      {.is_lost = [&communicator] { return communicator.lost(); },
       .on_lost =
           [group_fd = static_cast<int>(o.group_fd)](const std::string& why) {
             process::log_error("{}", why);
             comm::abort_group(group_fd);
             std::_Exit(static_cast<int>(ExitCode::fault));
           },
       .on_fallback = [](const std::string& what) { process::log_warn("{}", what); }});
}
#endif

// Null where the model runs on the CPU: told so, told by --cpu-path which, or for want of a GPU.
std::unique_ptr<kernels::Ops> make_gpu_ops(const Options& o, comm::Communicator& communicator) {
  if (o.device == "cpu" || (o.device == "auto" && o.cpu_path != "auto")) return nullptr;
  if (o.cpu_path != "auto" && o.rank == 0) {
    process::log_warn("--cpu-path {} has no effect with --device cuda", o.cpu_path);
  }
  std::string why_none = "this build has no CUDA backend";
#ifdef CHORUS_HAS_CUDA
  const int devices = kernels::cuda_device_count(why_none);
  if (devices > 0) {
    check_gpu_ranks(o, devices);
    try {
      return start_gpu(o, communicator);
    } catch (const std::bad_alloc&) {
      throw StartError(ExitCode::unavailable,
                       "no memory to start the GPU backend with; --device cpu works without");
    } catch (const std::runtime_error& error) {
      // Where there are other ranks, theirs may have started.
      if (o.ranks > 1) {
        throw StartError(ExitCode::unavailable,
                         std::string(error.what()) + "; --device cpu works without GPUs");
      }
      why_none = std::string("the GPU cannot be used: ") + error.what();
    }
  }
#else
  (void)communicator;
#endif
  if (o.device == "cuda") {
    throw StartError(ExitCode::unavailable,
                     "--device cuda: no GPU to use: " + why_none + "; --device cpu works");
  }
  if (o.rank == 0) process::log_info("computing on the CPU: {}", why_none);
  return nullptr;
}

std::unique_ptr<kernels::Ops> make_ops(const Options& o, comm::Communicator& communicator) {
  if (auto gpu = make_gpu_ops(o, communicator)) return gpu;
  if (o.dtype != "auto" && o.rank == 0) {
    process::log_warn(
        "--dtype {} has no effect on a CPU: weights are served as their files have "
        "them",
        o.dtype);
  }
  const std::string kv = o.cpu_path == "reference" ? "float32" : "float16";
  if (o.kv_cache_dtype != "auto" && o.kv_cache_dtype != kv && o.rank == 0) {
    process::log_warn("--kv-cache-dtype {} has no effect on a CPU: keys and values are kept in {}",
                      o.kv_cache_dtype, kv);
  }
  kernels::CpuOptions options{.threads = static_cast<int>(o.threads), .collective = &communicator};
  if (o.cpu_path == "reference") return kernels::make_reference_ops(options);
  if (o.cpu_path == "scalar") options.isa = kernels::Isa::scalar;
  if (o.cpu_path == "avx2") options.isa = kernels::Isa::avx2;
  if (o.cpu_path == "avx512") options.isa = kernels::Isa::avx512;
  if (!kernels::supported(options.isa)) {
    throw StartError(
        ExitCode::unavailable,
        "--cpu-path " + o.cpu_path + ": this machine does not have that instruction set");
  }
  return kernels::make_cpu_ops(options);
}

// A flag that contradicts the checkpoint is a wrong flag, not a wrong file.
void check_quantize(const Options& o, const modelfile::Model& model) {
  try {
    weights::check_quantize(o.quantize, model);
  } catch (const std::invalid_argument& error) {
    throw StartError(ExitCode::usage, error.what());
  }
}

weights::Partition make_partition(const Options& o, const models::DecoderSpec& spec) {
  try {
    return weights::partition(spec.shape, static_cast<int>(o.rank), static_cast<int>(o.ranks));
  } catch (const std::invalid_argument& error) {
    throw StartError(ExitCode::usage, std::string("--num-shard: ") + error.what());
  }
}

step::ExecutorLimits make_limits(const Options& o, const models::DecoderSpec& spec) {
  const int slots = o.max_batch_size > 0 ? static_cast<int>(o.max_batch_size) : kSlots;
  const auto prefill = o.max_batch_prefill_tokens > 0 ? o.max_batch_prefill_tokens : kPrefillTokens;
  int64_t context = spec.context_max;
  if (o.max_total_tokens > context) {
    throw StartError(ExitCode::usage, "--max-total-tokens " + std::to_string(o.max_total_tokens) +
                                          " is more than the model's context of " +
                                          std::to_string(context));
  }
  if (o.max_total_tokens > 0) context = o.max_total_tokens;
  return {.slots = slots,
          .step_tokens_max = static_cast<int>(prefill) + slots,
          .context_max = context,
          .kv_tokens = o.kv_cache_tokens};
}

v1::InfoResponse make_info(const modelfile::Model& model, const kernels::Ops& ops,
                           const models::Decoder& decoder, const step::Executor& executor,
                           const step::ExecutorLimits& limits, int ranks) {
  v1::InfoResponse info;
  info.set_model_name(model.name());
  info.set_architecture(model.config().architecture());
  info.set_backend(ops.description());
  info.set_ranks(ranks);
  info.set_vocab_size(decoder.spec().shape.vocab);
  info.set_context_max(limits.context_max);
  info.set_block_tokens(ops.block_tokens());
  info.set_slots(limits.slots);
  info.set_step_tokens_max(limits.step_tokens_max);
  info.set_top_logprobs_max(kernels::kTopLogprobsMax);
  info.set_weights_bytes(decoder.weights_bytes());
  const auto block_bytes = executor.block_bytes();
  for (size_t i = 0; i < block_bytes.size(); ++i) {
    const int64_t window = decoder.spec().kv_groups[i].window;
    auto& group = *info.add_kv_groups();
    group.set_kind(window > 0 ? v1::KV_KIND_SLIDING : v1::KV_KIND_FULL);
    group.set_window(window);
    group.set_block_bytes(block_bytes[i]);
  }
  return info;
}

// SIGTERM and SIGINT are taken by one thread; every other one (gRPC's too) has them blocked.
void block_signals(sigset_t& signals) {
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

// What the router and the signal thread hold on to. It outlives a failure's way to the launcher:
// were the server gone before the launcher knows why, the router's complaint could come first.
struct Service {
  service::LoadState load;
  std::unique_ptr<service::Shard> shard;  // rank 0's
  std::atomic<bool> serving = false;
};

void run(const Options& o, const process::StatusPipe& status, Service& service) {
  sigset_t signals;
  block_signals(signals);
  if (o.rank == 0) {
    service.shard = service::Shard::start(static_cast<int>(o.channel_fd), service.load);
  }
  // Before serving there is nothing to finish, and ranks other than 0 hold nothing of their own:
  // they end at once. Rank 0 ends between two steps.
  std::thread([&service, signals] {
    int signal = 0;
    sigwait(&signals, &signal);
    if (!service.serving) std::_Exit(0);
    service.shard->stop();
  }).detach();

  const auto model = modelfile::open_model(o.model_id);
  check_quantize(o, *model);
  auto communicator = make_communicator(o);
  auto ops = make_ops(o, *communicator);
  auto spec = models::describe(*model);
  const auto limits = make_limits(o, spec);
  spec.context_max = limits.context_max;
  const auto partition = make_partition(o, spec);
  models::Decoder decoder(*ops, *model, std::move(spec), partition, o.ranks > 1, [&](double done) {
    service.load.fraction = done;
    status.progress(done, "loading weights");
  });
  step::Executor executor(*ops, decoder, *communicator, limits);
  service.load.loaded = true;
  status.ready(ops->description());
  process::log_info("{}: {} layers, {} MB of weights, {}", model->name(), decoder.spec().layers,
                    decoder.weights_bytes() / 1000000, ops->description());
  if (o.rank > 0) service::follow(executor, *communicator);
  service.serving = true;
  service.shard->serve(
      executor, *communicator,
      make_info(*model, *ops, decoder, executor, limits, static_cast<int>(o.ranks)));
}

int fail(const process::StatusPipe& status, ExitCode code, const char* message) {
  process::log_error("{}", message);
  status.failed(static_cast<int>(code), message);
  return static_cast<int>(code);
}

int guarded(const Options& o) {
  const process::StatusPipe status(static_cast<int>(o.status_fd));
  Service service;
  try {
    run(o, status, service);
    return 0;
  } catch (const StartError& error) {
    return fail(status, error.code(), error.what());
  } catch (const modelfile::FileError& error) {
    return fail(status,
                error.kind() == modelfile::FileError::Kind::missing ? ExitCode::model_missing
                                                                    : ExitCode::model_corrupt,
                error.what());
  } catch (const std::invalid_argument& error) {  // the backend has no kernel for this model
    return fail(status, ExitCode::model_corrupt, error.what());
  } catch (const step::NotEnoughMemory& error) {
    return fail(status, ExitCode::unavailable, error.what());
  } catch (const std::bad_alloc&) {
    return fail(status, ExitCode::unavailable,
                "not enough memory for the weights and the KV cache");
  } catch (const std::exception& error) {
    return fail(status, ExitCode::fault, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  try {
    if (!parse(o, argc, argv)) return 0;
    const std::string name = "shard " + std::to_string(o.rank);
    process::start_log(
        {.process = name, .json = o.json_output, .level = process::parse_log_level(o.log_level)});
    if (o.parent_pid > 0) process::die_with_parent(static_cast<int>(o.parent_pid));
    if (o.status_fd >= 0) process::take_inherited(static_cast<int>(o.status_fd), "--status-fd");
    if (o.group_fd >= 0) process::take_inherited(static_cast<int>(o.group_fd), "--group-fd");
    if (o.channel_fd >= 0) process::take_inherited(static_cast<int>(o.channel_fd), "--channel-fd");
  } catch (const StartError& error) {
    fprintf(stderr, "chorus-shard: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  const int code = guarded(o);
  if (code != 0 && o.group_fd >= 0) comm::abort_group(static_cast<int>(o.group_fd));
  std::_Exit(code);  // threads of gRPC and the signal thread hold nothing worth an orderly end
}
