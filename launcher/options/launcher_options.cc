// The options table of chorus-launcher, and the rules between options.
//
// HOSTNAME is TGI's variable for the address to listen on, but Kubernetes and Docker set it to the
// container's name: it counts only where it is an IP address. Whole sentences of a RUST_LOG style
// in LOG_LEVEL do not count either.
#include "launcher/options/launcher_options.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "launcher/options/cloud.h"
#include "launcher/options/tgi_flags.h"
#include "process/exit_codes.h"
#include "process/options.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using process::Option;
using process::StartError;

constexpr double kTokensMax = 1 << 30;
constexpr std::array<std::string_view, 4> kLogLevels = {"debug", "info", "warn", "error"};

constexpr std::string_view kUsage =
    "--model-id MODEL [flags]\n"
    "       chorus-launcher download-weights MODEL [--revision REVISION]\n"
    "           fetches a model from the hub into the cache, and serves nothing\n"
    "       chorus-launcher serve [flags]\n"
    "           as SageMaker starts containers: its port, limits and variables count";

constexpr std::string_view kPageHead =
    "# Flags of chorus-launcher\n\n"
    "A flag counts before its environment variable, that before the default. This page is what\n"
    "`chorus-launcher --options-markdown` prints; a test compares the two.\n\n";

bool is_ip_address(std::string_view text) {
  const std::string address(text);
  in6_addr unused{};
  return inet_pton(AF_INET, address.c_str(), &unused) == 1 ||
         inet_pton(AF_INET6, address.c_str(), &unused) == 1;
}

bool is_log_level(std::string_view text) {
  return std::find(kLogLevels.begin(), kLogLevels.end(), text) != kLogLevels.end();
}

// A command line without its verb.
struct Words {
  Verb verb = Verb::serve;
  bool sagemaker = false;  // the verb was `serve`, as SageMaker has it
  std::vector<const char*> rest;
};

Words take_verb(std::vector<const char*> words) {
  const auto first_is = [&](std::string_view word) { return !words.empty() && words[0] == word; };
  Words taken;
  if (first_is("download-weights")) {
    taken.verb = Verb::download_weights;
    words.erase(words.begin());
    if (!words.empty() && words[0][0] != '-') words.insert(words.begin(), "--model-id");
  } else if (first_is("serve")) {
    taken.sagemaker = true;
    words.erase(words.begin());
  }
  taken.rest = std::move(words);
  return taken;
}

// What parse_options fills in beside the options themselves.
struct Parsed {
  LauncherOptions options;
  std::optional<int64_t> num_shard;
  std::optional<std::string> sharded;
  TgiFlags tgi;
};

std::vector<Option> model_rows(Parsed& parsed) {
  LauncherOptions& o = parsed.options;
  return {
      {.name = "model-id",
       .target = &o.model_id,
       .help = "The model: a folder of Hugging Face files, a .gguf file, or a name on the Hugging "
               "Face hub, 'org/name' or for one of its GGUF files 'org/name:Q4_K_M'."},
      {.name = "revision",
       .target = &o.revision,
       .help = "Branch, tag or commit of a model on the hub, unset: main."},
      {.name = "huggingface-hub-cache",
       .target = &o.huggingface_hub_cache,
       .help = "Folder that models from the hub are kept in, unset: HUGGINGFACE_HUB_CACHE, then "
               "hub/ in HF_HOME, then ~/.cache/huggingface/hub.",
       .env = "HF_HUB_CACHE"},
      {.name = "served-model-name",
       .target = &o.served_model_name,
       .help = "What clients call the model, unset: --model-id, of a path its last name."},
      {.name = "chat-template-file",
       .target = &o.chat_template_file,
       .help = "Chat template (Jinja, or .json with a chat_template) in place of the model's.",
       .env = "CHORUS_CHAT_TEMPLATE_FILE",
       .aliases = {"tokenizer-config-path"}},
      {.name = "num-shard",
       .target = &parsed.num_shard,
       .help = "Processes the model is split over, unset: 1.",
       .min = 1,
       .max = 1024},
      {.name = "sharded",
       .target = &parsed.sharded,
       .help = "Whether to split: true needs --num-shard of at least 2, false means 1.",
       .choices = {"true", "false"}},
      {.name = "device",
       .target = &o.device,
       .help = "Where to compute.",
       .choices = {"auto", "cpu", "cuda"},
       .env = "CHORUS_DEVICE"},
      {.name = "dtype",
       .target = &o.dtype,
       .help = "On a GPU, the type of weights that are not quantised, and of the activations that "
               "any weights are multiplied with; auto: bfloat16. A CPU serves weights as they "
               "are stored.",
       .choices = {"auto", "bfloat16", "float16", "float32"}},
      {.name = "kv-cache-dtype",
       .target = &o.kv_cache_dtype,
       .help = "What a GPU keeps keys and values in; auto: float16, with --dtype float32 that. "
               "fp8_e4m3fn, without scales: half the memory. fp8_e5m2 is refused.",
       .choices = {"auto", "float16", "bfloat16", "fp8_e4m3fn", "fp8_e5m2"}},
      {.name = "quantize",
       .target = &o.quantize,
       .help = "How the checkpoint is quantised, checked against its configuration: awq, "
               "compressed-tensors, fp8, gptq, or marlin for awq or gptq. Nothing is quantised "
               "while loading, so TGI's bitsandbytes, eetq and exl2 are refused. Unset: nothing "
               "is checked.",
       .choices = {"awq", "compressed-tensors", "fp8", "gptq", "marlin"}},
      {.name = "deterministic",
       .target = &o.deterministic,
       .help = "On a GPU too, a request's tokens never depend on its neighbours; slower.",
       .env = "CHORUS_DETERMINISTIC"},
      {.name = "threads",
       .target = &o.threads,
       .help = "Threads of each shard, unset: the cores divided by the shards.",
       .min = 1,
       .max = 1024,
       .env = "CHORUS_THREADS"},
      {.name = "cpu-path",
       .target = &o.cpu_path,
       .help = "Instruction set of the CPU backend, which it chooses where --device does not; "
               "reference: plain loops, slow.",
       .choices = {"auto", "reference", "scalar", "avx2", "avx512"},
       .env = "CHORUS_CPU_PATH"},
      {.name = "kv-cache-tokens",
       .target = &o.kv_cache_tokens,
       .help = "Room in the KV cache, tokens; 0: from the free memory.",
       .min = 0,
       .max = kTokensMax,
       .env = "CHORUS_KV_CACHE_TOKENS"},
  };
}

std::vector<Option> limit_rows(Parsed& parsed) {
  LauncherOptions& o = parsed.options;
  return {
      {.name = "max-concurrent-requests",
       .target = &o.max_concurrent_requests,
       .help = "Requests inside at once; more are answered 429.",
       .min = 1,
       .max = 1e6},
      {.name = "max-stop-sequences",
       .target = &o.max_stop_sequences,
       .help = "Stop strings a request may have.",
       .min = 0,
       .max = 1024},
      {.name = "max-best-of",
       .target = &o.max_best_of,
       .help = "Answers that a best_of of TGI's routes may ask for.",
       .min = 1,
       .max = 128},
      {.name = "max-top-n-tokens",
       .target = &o.max_top_n_tokens,
       .help = "Alternatives that a top_n_tokens of TGI's routes may ask for.",
       .min = 0,
       .max = 20},
      {.name = "max-input-tokens",
       .target = &o.max_input_tokens,
       .help = "Longest prompt, tokens; unset: one less than the total.",
       .min = 1,
       .max = kTokensMax,
       .aliases = {"max-input-length"}},
      {.name = "max-total-tokens",
       .target = &o.max_total_tokens,
       .help = "Longest prompt and output together, tokens; unset: the model's context.",
       .min = 2,
       .max = kTokensMax},
      {.name = "max-batch-prefill-tokens",
       .target = &o.max_batch_prefill_tokens,
       .help = "Prompt tokens computed in one step; unset: 512.",
       .min = 1,
       .max = 1 << 20},
      {.name = "max-batch-size",
       .target = &o.max_batch_size,
       .help = "Requests computed in one step; unset: 64.",
       .min = 1,
       .max = 65536},
      {.name = "payload-limit",
       .target = &o.payload_limit,
       .help = "Largest request body, bytes.",
       .min = 1,
       .max = kTokensMax},
  };
}

std::vector<Option> serving_rows(Parsed& parsed) {
  LauncherOptions& o = parsed.options;
  return {
      {.name = "hostname",
       .target = &o.hostname,
       .help = "IP address to listen on; the variable counts only if it is one.",
       .env_counts = is_ip_address},
      {.name = "port",
       .target = &o.port,
       .help = "TCP port to listen on; 0: any free one.",
       .short_name = 'p',
       .min = 0,
       .max = 65535},
      {.name = "messages-api-enabled",
       .target = &o.messages_api_enabled,
       .help = "POST /invocations takes messages (true) or TGI's generate body (false)."},
      {.name = "aip-predict-route",
       .target = &o.aip_predict_route,
       .help = "Route that Vertex AI sends predictions to; Vertex sets the variable."},
      {.name = "aip-health-route",
       .target = &o.aip_health_route,
       .help = "Route that Vertex AI asks for health; Vertex sets the variable."},
      {.name = "graceful-termination-timeout",
       .target = &o.graceful_termination_timeout,
       .help = "How long running requests may take to end after SIGTERM, seconds.",
       .short_name = 'g',
       .min = 0,
       .max = 86400},
      {.name = "json-output", .target = &o.json_output, .help = "Log one JSON object per line."},
      {.name = "log-level",
       .target = &o.log_level,
       .help = "Least level that is logged.",
       .choices = {kLogLevels.begin(), kLogLevels.end()},
       .env_counts = is_log_level},
  };
}

std::vector<Option> access_rows(Parsed& parsed) {
  LauncherOptions& o = parsed.options;
  return {
      {.name = "api-key",
       .target = &o.api_keys,
       .help = "Key that requests must bring, visible in ps: better the variable or a file."},
      {.name = "api-key-file",
       .target = &o.api_key_file,
       .help = "File of keys, `key` or `name:key` a line, read again when it changes.",
       .env = "CHORUS_API_KEY_FILE"},
      {.name = "metrics-need-key",
       .target = &o.metrics_need_key,
       .help = "Whether /metrics needs a key too, where there are keys.",
       .env = "CHORUS_METRICS_NEED_KEY"},
      {.name = "cors-allow-origin",
       .target = &o.cors_allow_origin,
       .help = "Origin (https://host:port) whose pages may use the server; unset: any."},
      {.name = "allowed-host",
       .target = &o.allowed_hosts,
       .help = "Name that requests may call a server on a loopback address by; *: any.",
       .env = "CHORUS_ALLOWED_HOST"},
      {.name = "tls-cert",
       .target = &o.tls_cert,
       .help = "PEM file of the certificate chain: HTTPS. Read again when it changes.",
       .env = "CHORUS_TLS_CERT"},
      {.name = "tls-key",
       .target = &o.tls_key,
       .help = "PEM file of the certificate's key, not encrypted.",
       .env = "CHORUS_TLS_KEY"},
      {.name = "max-connections",
       .target = &o.max_connections,
       .help = "Connections at once; unset: what the limit of open files allows.",
       .min = 1,
       .max = 1 << 20,
       .env = "CHORUS_MAX_CONNECTIONS"},
  };
}

std::vector<Option> make_table(Parsed& parsed) {
  std::vector<Option> table;
  for (auto rows : {model_rows(parsed), limit_rows(parsed), serving_rows(parsed),
                    access_rows(parsed), parsed.tgi.options()}) {
    table.insert(table.end(), rows.begin(), rows.end());
  }
  return table;
}

[[noreturn]] void refuse(const std::string& message) {
  throw StartError(ExitCode::usage, message);
}

int64_t shards_of(const Parsed& parsed) {
  const int64_t shards = parsed.num_shard.value_or(1);
  if (parsed.sharded == "true" && shards < 2) {
    refuse("--sharded true needs --num-shard of at least 2");
  }
  if (parsed.sharded == "false" && shards > 1) {
    refuse(fmt::format("--sharded false contradicts --num-shard {}", shards));
  }
  return shards;
}

// An empty key, or a variable of commas alone, must not leave the server open. Says nothing of the
// key itself.
void check_keys(const LauncherOptions& o) {
  for (const std::string& key : o.api_keys) {
    const bool visible =
        std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7F; });
    if (key.empty() || !visible) {
      refuse("--api-key, API_KEY: a key is visible ASCII characters without blanks");
    }
  }
  const char* variable = std::getenv("API_KEY");
  if (variable != nullptr && *variable != '\0' && o.api_keys.empty()) {
    refuse("environment variable API_KEY: there is no key in it");
  }
  if (o.metrics_need_key && o.api_keys.empty() && !o.api_key_file) {
    refuse("--metrics-need-key needs --api-key or --api-key-file");
  }
}

// A mistyped origin (a path, no scheme) would match no page, and nobody would see why.
void check_origins(const LauncherOptions& o) {
  for (const std::string& origin : o.cors_allow_origin) {
    const size_t scheme = origin.find("://");
    const bool whole = scheme != origin.npos && scheme > 0 && scheme + 3 < origin.size() &&
                       origin.find_first_of("/?#@ ", scheme + 3) == origin.npos;
    if (whole || origin == "*" || origin == "null") continue;
    refuse(
        fmt::format("--cors-allow-origin: '{}' is no origin: https://host or https://host:port, "
                    "without a path",
                    origin));
  }
}

// From the environment as /proc shows it, too: there the first bytes of a process stay.
void wipe_variable(const char* name) {
  if (char* value = std::getenv(name)) explicit_bzero(value, std::strlen(value));
  unsetenv(name);
}

// Where a model should have come from, if not from a flag.
[[noreturn]] void refuse_without_model(bool sagemaker) {
  const std::string bucket = explain_storage_uri(real_surroundings());
  if (!bucket.empty()) refuse(bucket);
  refuse(
      std::string("--model-id is missing: a folder of Hugging Face files, a .gguf file, or a name "
                  "on the Hugging Face hub") +
      (sagemaker ? "; HF_MODEL_ID is not set, and /opt/ml/model holds neither config.json nor one "
                   ".gguf file"
                 : ""));
}

// What was taken from the environment, for the log.
void note_presets(const std::vector<process::Preset>& presets, LauncherOptions& o) {
  for (const process::Preset& preset : presets) {
    if (!preset.counted) continue;
    o.notes.push_back(fmt::format("--{} {}: from {}", preset.option, preset.value, preset.source));
  }
  const std::string bucket = explain_storage_uri(real_surroundings());
  if (!bucket.empty()) o.warnings.push_back(bucket);
}

void check_together(const LauncherOptions& o) {
  if (o.kv_cache_dtype == "fp8_e5m2") {
    refuse(
        "--kv-cache-dtype fp8_e5m2: keys and values with two bits of mantissa are not built; "
        "fp8_e4m3fn is as small and has three");
  }
  if (!is_ip_address(o.hostname)) {
    refuse(fmt::format("--hostname: '{}' is not an IP address", o.hostname));
  }
  if (o.max_input_tokens && o.max_total_tokens && *o.max_input_tokens >= *o.max_total_tokens) {
    refuse(fmt::format("--max-input-tokens {} must be below --max-total-tokens {}",
                       *o.max_input_tokens, *o.max_total_tokens));
  }
}

void remark_on_variable(const char* name, bool (*counts)(std::string_view),
                        std::vector<std::string>& lines) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0' || counts(value)) return;
  lines.push_back(
      fmt::format("environment variable {}='{}' is ignored: its value is not one of "
                  "ours",
                  name, value));
}

}  // namespace

std::optional<LauncherOptions> read_options(int argc, const char* const* argv,
                                            std::string_view version) {
  Parsed parsed;
  const std::vector<Option> table = make_table(parsed);
  const std::string tail = tgi_flags_markdown();
  const process::Program program{
      .name = "chorus-launcher",
      .summary = "Serves a language model over HTTP: starts the shards and the router.",
      .version = version,
      .markdown_head = kPageHead,
      .markdown_tail = tail,
      .usage = kUsage};
  Words words = take_verb({argv + 1, argv + argc});
  words.rest.insert(words.rest.begin(), argv[0]);
  std::vector<process::Preset> presets = cloud_presets(words.sagemaker, real_surroundings());
  if (!process::parse_options(program, table, static_cast<int>(words.rest.size()),
                              words.rest.data(), presets)) {
    return std::nullopt;
  }
  LauncherOptions& o = parsed.options;
  o.verb = words.verb;
  o.num_shard = shards_of(parsed);
  o.warnings = parsed.tgi.check();
  if (o.model_id.empty()) refuse_without_model(words.sagemaker);
  note_presets(presets, o);
  check_together(o);
  check_keys(o);
  check_origins(o);
  if (o.tls_cert.has_value() != o.tls_key.has_value()) {
    refuse("--tls-cert and --tls-key belong together");
  }
  wipe_variable("API_KEY");
  remark_on_variable("HOSTNAME", is_ip_address, o.remarks);
  remark_on_variable("LOG_LEVEL", is_log_level, o.warnings);
  return std::move(o);
}

std::string flags_page() {
  Parsed parsed;
  return std::string(kPageHead) + process::options_markdown(make_table(parsed)) +
         tgi_flags_markdown();
}

}  // namespace chorus::launcher
