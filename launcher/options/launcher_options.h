// What a person can ask of chorus-launcher: TGI's names where TGI has the thing, CHORUS_ variables
// for what only Chorus has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::launcher {

enum class Verb { serve, download_weights };

struct LauncherOptions {
  std::string chat_template_file;  // empty: what the model brings
  Verb verb = Verb::serve;
  std::string model_id;  // a path, or a name on a hub
  std::optional<std::string> revision;
  std::optional<std::string> huggingface_hub_cache;
  std::optional<std::string> served_model_name;
  std::optional<std::string> model_sha;  // known once the model is found
  bool messages_api_enabled = false;
  std::optional<std::string> aip_predict_route, aip_health_route;
  int64_t num_shard = 1;
  std::string hostname = "0.0.0.0";
  int64_t port = 3000;
  int64_t max_concurrent_requests = 128;
  int64_t max_stop_sequences = 4;
  int64_t max_best_of = 2;
  int64_t max_top_n_tokens = 5;
  std::optional<int64_t> max_input_tokens;
  std::optional<int64_t> max_total_tokens;
  std::optional<int64_t> max_batch_prefill_tokens;
  std::optional<int64_t> max_batch_size;
  int64_t payload_limit = 2'000'000;
  int64_t graceful_termination_timeout = 90;  // seconds
  std::string device = "auto";
  std::string dtype = "auto";
  std::string kv_cache_dtype = "auto";
  std::optional<std::string> quantize;
  bool deterministic = false;
  std::string cpu_path = "auto";
  std::optional<int64_t> threads;  // per shard
  int64_t kv_cache_tokens = 0;     // 0: from the memory
  std::vector<std::string> api_keys;
  std::optional<std::string> api_key_file;
  bool metrics_need_key = false;
  std::vector<std::string> cors_allow_origin;
  std::vector<std::string> allowed_hosts;
  std::optional<std::string> tls_cert, tls_key;
  std::optional<int64_t> max_connections;
  bool json_output = false;
  std::string log_level = "info";
  std::vector<std::string> warnings;  // to log once the log is started
  std::vector<std::string> notes;     // the same, as lines of level info
  std::vector<std::string> remarks;   // the same, as debug lines
};

// The options of a command line and the environment; API_KEY is wiped from the environment, which
// every user of the machine with our uid could read and every child would inherit. Nothing where
// --help and the like were answered; throws StartError(usage).
std::optional<LauncherOptions> read_options(int argc, const char* const* argv,
                                            std::string_view version);

// docs/flags.md, made from the table.
std::string flags_page();

}  // namespace chorus::launcher
