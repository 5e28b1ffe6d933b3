// Command lines of the children, from the launcher's options.
#include "launcher/processes/command_lines.h"

#include <fmt/format.h>

namespace chorus::launcher {
namespace {

class Arguments {
 public:
  void text(const char* flag, const std::string& value) {
    all_.emplace_back(flag);
    all_.push_back(value);
  }
  void flag(const char* flag, bool value) { text(flag, std::string(value ? "true" : "false")); }
  void number(const char* flag, int64_t value) { text(flag, std::to_string(value)); }
  void number(const char* flag, const std::optional<int64_t>& value) {
    if (value) number(flag, *value);
  }
  void text(const char* flag, const std::optional<std::string>& value) {
    if (value) text(flag, *value);
  }
  void descriptor(const char* flag, int fd) {
    if (fd >= 0) number(flag, fd);
  }
  std::vector<std::string> take() { return std::move(all_); }

 private:
  std::vector<std::string> all_;
};

void add_ties(Arguments& arguments, const Ties& ties) {
  arguments.descriptor("--channel-fd", ties.channel);
  arguments.descriptor("--group-fd", ties.group);
  arguments.descriptor("--status-fd", ties.status);
  arguments.descriptor("--api-key-fd", ties.keys);
  arguments.number("--parent-pid", ties.parent_pid);
}

void add_log(Arguments& arguments, const LauncherOptions& options) {
  arguments.flag("--json-output", options.json_output);
  arguments.text("--log-level", options.log_level);
}

}  // namespace

Command shard_command(const LauncherOptions& options, const std::filesystem::path& programs,
                      int rank, int threads, const Ties& ties) {
  Arguments arguments;
  arguments.text("--model-id", options.model_id);
  arguments.number("--rank", rank);
  arguments.number("--ranks", options.num_shard);
  add_ties(arguments, ties);
  arguments.text("--device", options.device);
  arguments.text("--dtype", options.dtype);
  arguments.text("--kv-cache-dtype", options.kv_cache_dtype);
  arguments.text("--quantize", options.quantize);
  if (options.deterministic) arguments.flag("--deterministic", true);
  arguments.number("--threads", threads);
  arguments.text("--cpu-path", options.cpu_path);
  arguments.number("--kv-cache-tokens", options.kv_cache_tokens);
  arguments.number("--max-batch-size", options.max_batch_size);
  arguments.number("--max-batch-prefill-tokens", options.max_batch_prefill_tokens);
  arguments.number("--max-total-tokens", options.max_total_tokens);
  add_log(arguments, options);
  return {.program = programs / "chorus-shard", .arguments = arguments.take()};
}

std::string api_key_lines(const LauncherOptions& options) {
  std::string lines;
  for (size_t i = 0; i < options.api_keys.size(); ++i) {
    lines += fmt::format("api-key-{}:{}\n", i + 1, options.api_keys[i]);
  }
  return lines;
}

Command router_command(const LauncherOptions& options, const std::filesystem::path& programs,
                       const Ties& ties) {
  Arguments arguments;
  arguments.text("--model-id", options.model_id);
  if (!options.chat_template_file.empty()) {
    arguments.text("--chat-template-file", options.chat_template_file);
  }
  arguments.text("--served-model-name", options.served_model_name);
  arguments.text("--model-sha", options.model_sha);
  arguments.flag("--messages-api-enabled", options.messages_api_enabled);
  arguments.text("--aip-predict-route", options.aip_predict_route);
  arguments.text("--aip-health-route", options.aip_health_route);
  add_ties(arguments, ties);
  arguments.text("--hostname", options.hostname);
  arguments.number("--port", options.port);
  arguments.number("--max-concurrent-requests", options.max_concurrent_requests);
  arguments.number("--max-stop-sequences", options.max_stop_sequences);
  arguments.number("--max-best-of", options.max_best_of);
  arguments.number("--max-top-n-tokens", options.max_top_n_tokens);
  arguments.number("--max-input-tokens", options.max_input_tokens);
  arguments.number("--max-total-tokens", options.max_total_tokens);
  arguments.number("--max-batch-prefill-tokens", options.max_batch_prefill_tokens);
  arguments.number("--payload-limit", options.payload_limit);
  arguments.number("--graceful-termination-timeout", options.graceful_termination_timeout);
  arguments.text("--api-key-file", options.api_key_file);
  for (const auto& origin : options.cors_allow_origin) {
    arguments.text("--cors-allow-origin", origin);
  }
  for (const auto& host : options.allowed_hosts) arguments.text("--allowed-host", host);
  arguments.text("--tls-cert", options.tls_cert);
  arguments.text("--tls-key", options.tls_key);
  arguments.number("--max-connections", options.max_connections);
  if (options.metrics_need_key) arguments.flag("--metrics-need-key", true);
  add_log(arguments, options);
  return {.program = programs / "chorus-router", .arguments = arguments.take()};
}

}  // namespace chorus::launcher
