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
       .help = "The model: a folder of Hugging Face files, or a .gguf file."},
      {.name = "chat-template-file",
       .target = &o.chat_template_file,
       .help = "Chat template (Jinja, or .json with a chat_template) in place of the model's.",
       .env = "CHORUS_CHAT_TEMPLATE_FILE"},
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
       .choices = {"auto", "cpu"},
       .env = "CHORUS_DEVICE"},
      {.name = "threads",
       .target = &o.threads,
       .help = "Threads of each shard, unset: the cores divided by the shards.",
       .min = 1,
       .max = 1024,
       .env = "CHORUS_THREADS"},
      {.name = "cpu-path",
       .target = &o.cpu_path,
       .help = "Instruction set of the CPU backend; reference: plain loops, slow.",
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

void check_together(const LauncherOptions& o) {
  if (o.model_id.empty()) {
    refuse("--model-id is missing: a folder of Hugging Face files, or a .gguf file");
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
      .markdown_tail = tail};
  if (!process::parse_options(program, table, argc, argv)) return std::nullopt;
  LauncherOptions& o = parsed.options;
  o.num_shard = shards_of(parsed);
  o.warnings = parsed.tgi.check();
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
