// chorus-router: HTTP in front, the shards behind. Answers from the first moment (503 with the
// loading progress), serves once the shards are ready, drains on SIGTERM. Started by
// chorus-launcher, which hands it the socket to rank 0 as a descriptor. `chorus-router text` is
// something else: a model's tokenizer and templates for people who debug prompts.
#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "modelfile/error.h"
#include "modelfile/model.h"
#include "process/child.h"
#include "process/descriptor_limit.h"
#include "process/exit_codes.h"
#include "process/log.h"
#include "process/options.h"
#include "process/status_pipe.h"
#include "router/api/generate_wording.h"
#include "router/api/service.h"
#include "router/engine/driver.h"
#include "router/http/server.h"
#include "router/shards/grpc_link.h"
#include "router/text/chat_format.h"
#include "router/text/tokenizer.h"
#include "router/text_commands/text_commands.h"

namespace {

using namespace chorus;
using process::ExitCode;
using process::StartError;

struct Options {
  std::string model_id, compute_type, chat_template_file, hostname = "0.0.0.0", log_level = "info";
  std::optional<std::string> served_model_name;
  std::string model_sha, aip_predict_route, aip_health_route;
  int64_t port = 3000, http_threads = 2;
  int64_t channel_fd = -1, status_fd = -1, parent_pid = 0;
  int64_t max_concurrent_requests = 128, max_stop_sequences = 4, max_best_of = 2,
          max_top_n_tokens = 5;
  int64_t payload_limit = 2'000'000;
  int64_t graceful_termination_timeout = 90;
  std::optional<int64_t> max_input_tokens, max_total_tokens, max_batch_prefill_tokens;
  bool json_output = false, messages_api_enabled = false, metrics_need_key = false;
  std::optional<int64_t> api_key_fd, max_connections;
  std::optional<std::string> api_key_file, tls_cert, tls_key;
  std::vector<std::string> cors_allow_origin, allowed_host;
};

constexpr int64_t kPrefillTokens = 512;  // where --max-batch-prefill-tokens is not given

bool parse(Options& o, int argc, char** argv) {
  const process::Option table[] = {
      {.name = "model-id", .target = &o.model_id, .help = "model folder or GGUF file"},
      {.name = "chat-template-file",
       .target = &o.chat_template_file,
       .help = "chat template in place of the model's",
       .env = "CHORUS_CHAT_TEMPLATE_FILE"},
      {.name = "served-model-name",
       .target = &o.served_model_name,
       .help = "what clients call the model; unset: the folder's or file's name",
       .env = "-"},
      {.name = "model-sha",
       .target = &o.model_sha,
       .help = "the model's commit, for /info",
       .env = "-"},
      {.name = "messages-api-enabled",
       .target = &o.messages_api_enabled,
       .help = "/invocations takes messages",
       .env = "-"},
      {.name = "aip-predict-route",
       .target = &o.aip_predict_route,
       .help = "Vertex AI's route for predictions",
       .env = "-"},
      {.name = "aip-health-route",
       .target = &o.aip_health_route,
       .help = "Vertex AI's route for health",
       .env = "-"},
      {.name = "hostname", .target = &o.hostname, .help = "address to listen on", .env = "-"},
      {.name = "port",
       .target = &o.port,
       .help = "port to listen on; 0: any",
       .short_name = 'p',
       .min = 0,
       .max = 65535},
      {.name = "http-threads",
       .target = &o.http_threads,
       .help = "threads for connections",
       .min = 1,
       .max = 256},
      {.name = "max-concurrent-requests",
       .target = &o.max_concurrent_requests,
       .help = "requests queued and running; beyond: 429",
       .min = 1,
       .max = 1 << 20},
      {.name = "max-stop-sequences",
       .target = &o.max_stop_sequences,
       .help = "stop strings of a request",
       .min = 0,
       .max = 1024},
      {.name = "max-best-of",
       .target = &o.max_best_of,
       .help = "best_of of TGI's routes",
       .min = 1,
       .max = 128},
      {.name = "max-top-n-tokens",
       .target = &o.max_top_n_tokens,
       .help = "top_n_tokens of TGI's routes",
       .min = 0,
       .max = 20},
      {.name = "compute-type",
       .target = &o.compute_type,
       .help = "the x-compute-type header of TGI's routes; empty: where the shards compute"},
      {.name = "max-input-tokens",
       .target = &o.max_input_tokens,
       .help = "prompt tokens of a request",
       .min = 1},
      {.name = "max-total-tokens",
       .target = &o.max_total_tokens,
       .help = "prompt and output tokens of a request",
       .min = 2},
      {.name = "max-batch-prefill-tokens",
       .target = &o.max_batch_prefill_tokens,
       .help = "prompt tokens in one step",
       .min = 1,
       .max = 1 << 20},
      {.name = "payload-limit",
       .target = &o.payload_limit,
       .help = "bytes of a request's body",
       .min = 1},
      {.name = "graceful-termination-timeout",
       .target = &o.graceful_termination_timeout,
       .help = "seconds that running requests get on SIGTERM",
       .short_name = 'g',
       .min = 0,
       .max = 86400},
      {.name = "api-key-file",
       .target = &o.api_key_file,
       .help = "API keys, one a line, read again on change",
       .env = "-"},
      {.name = "metrics-need-key",
       .target = &o.metrics_need_key,
       .help = "/metrics needs a key too",
       .env = "-"},
      {.name = "cors-allow-origin",
       .target = &o.cors_allow_origin,
       .help = "origin whose pages may use the server; unset: any",
       .env = "-"},
      {.name = "allowed-host",
       .target = &o.allowed_host,
       .help = "name that Host may hold on a loopback address",
       .env = "-"},
      {.name = "tls-cert", .target = &o.tls_cert, .help = "PEM certificate chain", .env = "-"},
      {.name = "tls-key", .target = &o.tls_key, .help = "PEM key of the certificate", .env = "-"},
      {.name = "max-connections",
       .target = &o.max_connections,
       .help = "connections at once; unset: what the file descriptors allow",
       .min = 1,
       .max = 1 << 20,
       .env = "-"},
      {.name = "json-output", .target = &o.json_output, .help = "log as JSON lines"},
      {.name = "log-level", .target = &o.log_level, .help = "debug, info, warn or error"},
      {.name = "channel-fd", .target = &o.channel_fd, .help = "socket to rank 0", .env = "-"},
      {.name = "api-key-fd", .target = &o.api_key_fd, .help = "memory with API keys", .env = "-"},
      {.name = "status-fd", .target = &o.status_fd, .help = "pipe to the launcher", .env = "-"},
      {.name = "parent-pid",
       .target = &o.parent_pid,
       .help = "end when this process ends",
       .env = "-"},
  };
  const process::Program program{
      "chorus-router", "HTTP in front of the shards; started by chorus-launcher.", CHORUS_VERSION};
  if (!process::parse_options(program, table, argc, argv)) return false;
  if (o.model_id.empty()) throw StartError(ExitCode::usage, "--model-id is missing");
  if (o.tls_cert.has_value() != o.tls_key.has_value()) {
    throw StartError(ExitCode::usage, "--tls-cert and --tls-key belong together");
  }
  if (o.channel_fd < 0) {
    throw StartError(ExitCode::usage, "--channel-fd is missing: chorus-launcher starts the router");
  }
  return true;
}

// What clients see as the model's name: the file's or folder's, never a path of this machine.
std::string served_name(const std::string& model_id) {
  const auto path = std::filesystem::weakly_canonical(model_id);
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

// SIGTERM and SIGINT are taken here alone; every other thread has them blocked.
class Stop {
 public:
  Stop() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
  }
  void wait() {
    int signal = 0;
    if (!asked()) sigwait(&signals_, &signal);
  }
  bool asked() {  // takes a pending signal
    const timespec now{};
    asked_ = asked_ || sigtimedwait(&signals_, nullptr, &now) > 0;
    return asked_;
  }

 private:
  sigset_t signals_;
  bool asked_ = false;
};

// The text side of the model, read while the shards load the weights.
api::Serving read_text(const Options& o) {
  const auto model = modelfile::open_model(o.model_id, /*read_tensors=*/false);
  api::Serving serving;
  serving.tokenizer = text::make_tokenizer(model->tokenizer());
  serving.defaults = model->generation_defaults();
  modelfile::ChatTemplates templates = model->chat_templates();
  if (!o.chat_template_file.empty()) {
    templates.sources = modelfile::read_chat_template_file(o.chat_template_file);
  }
  if (templates.empty()) {
    process::log_warn("{} brings no chat template: chat requests will be refused", o.model_id);
    return serving;
  }
  auto format = text::ChatFormat::make(templates, std::string(serving.tokenizer->bos_text()),
                                       std::string(serving.tokenizer->eos_text()));
  if (!format) throw StartError(ExitCode::model_corrupt, format.error().message);
  serving.chat_format = std::move(*format);
  return serving;
}

// Nothing: everybody may ask.
std::unique_ptr<api::ApiKeys> read_keys(const Options& o) {
  if (!o.api_key_fd && !o.api_key_file) return nullptr;
  std::string given;
  if (o.api_key_fd) given = process::read_memory_file(static_cast<int>(*o.api_key_fd));
  auto keys = std::make_unique<api::ApiKeys>(given, o.api_key_file);
  explicit_bzero(given.data(), given.size());
  return keys;
}

// Beside the connections: the model's files, the engine, descriptors for the launcher.
constexpr int64_t kOtherDescriptors = 128;

size_t connections_max(const Options& o, size_t spare) {
  const int64_t limit = process::raise_descriptor_limit();
  const int64_t possible = limit - kOtherDescriptors - static_cast<int64_t>(spare);
  if (o.max_connections && *o.max_connections > possible) {
    throw StartError(
        ExitCode::unavailable,
        fmt::format("--max-connections {}: the limit of {} file descriptors allows {}; "
                    "raise it (ulimit -n)",
                    *o.max_connections, limit, std::max<int64_t>(possible, 0)));
  }
  return static_cast<size_t>(o.max_connections.value_or(std::clamp<int64_t>(possible, 1, 1 << 20)));
}

http::ServerOptions server_options(const Options& o, api::Service& service, bool keys) {
  http::ServerOptions options{.address = o.hostname,
                              .port = static_cast<uint16_t>(o.port),
                              .threads = static_cast<int>(o.http_threads),
                              .limits = {.body_bytes = static_cast<size_t>(o.payload_limit)},
                              .gate = service.gate()};
  options.connections_max = connections_max(o, options.spare_connections);
  options.browsers.origins = o.cors_allow_origin;
  options.browsers.hosts = o.allowed_host;
  // A page does not know the key: where there are keys, it may come under any name.
  options.browsers.check_host = !keys && http::is_loopback(o.hostname);
  if (o.tls_cert)
    options.certificate = std::make_shared<http::Certificate>(*o.tls_cert, *o.tls_key);
  return options;
}

api::ServiceOptions service_options(const Options& o, api::ApiKeys* keys) {
  return {.model_id = o.served_model_name.value_or(served_name(o.model_id)),
          .version = CHORUS_VERSION,
          .model_sha = o.model_sha,
          .chat = {.generation = {.stop_sequences_max = o.max_stop_sequences}},
          .generate = {.generation = {.stop_sequences_max = o.max_stop_sequences},
                       .best_of_max = o.max_best_of,
                       .top_n_tokens_max = o.max_top_n_tokens},
          .input_tokens_max = o.max_input_tokens,
          .total_tokens_max = o.max_total_tokens,
          .concurrent_requests_max = o.max_concurrent_requests,
          .keys = keys,
          .metrics_need_key = o.metrics_need_key,
          .messages_api = o.messages_api_enabled,
          .predict_route = o.aip_predict_route,
          .health_route = o.aip_health_route};
}

void run(const Options& o, const process::StatusPipe& status) {
  Stop stop;
  const auto keys = read_keys(o);
  api::Service service(service_options(o, keys.get()));
  http::Server server(server_options(o, service, keys != nullptr), service.entry());
  const auto client = shards::Client::connect(static_cast<int>(o.channel_fd));
  api::Serving serving = read_text(o);
  const auto info = client->wait_until_ready(
      [&](const shards::LoadProgress& p) { service.readiness().loading(p.fraction, p.what); },
      [&] { return stop.asked(); });

  std::unique_ptr<engine::Driver> driver;
  if (!stop.asked()) {
    driver = engine::Driver::start(
        client->open_link(), info,
        {.concurrent_requests_max = o.max_concurrent_requests,
         .prefill_tokens_max = o.max_batch_prefill_tokens.value_or(kPrefillTokens)},
        [&](const std::string& reason) {
          process::log_error("the shards are gone: {}", reason);
          service.readiness().failed(reason);
        });
    serving.engine = &driver->engine();
    serving.compute_type =
        o.compute_type.empty() ? api::compute_type_of(info.backend, info.ranks) : o.compute_type;
    service.serve(std::move(serving));
    status.ready(fmt::format("{}:{}", o.hostname, server.port()));
    process::log_info("serving {} ({}, {} KV blocks of {} tokens)", service.options().model_id,
                      info.backend, info.kv_groups.front().blocks, info.block_tokens);
    stop.wait();
  }
  service.readiness().draining();
  server.drain(std::chrono::seconds(o.graceful_termination_timeout));
}

ExitCode code_of(const modelfile::FileError& error) {
  return error.kind() == modelfile::FileError::Kind::missing ? ExitCode::model_missing
                                                             : ExitCode::model_corrupt;
}

int fail(const process::StatusPipe& status, ExitCode code, const char* message) {
  process::log_error("{}", message);
  status.failed(static_cast<int>(code), message);
  return static_cast<int>(code);
}

int guarded(const Options& o) {
  const process::StatusPipe status(static_cast<int>(o.status_fd));
  try {
    run(o, status);
    return 0;
  } catch (const shards::ShardGone& error) {  // the error is the shard's
    process::log_info("{}", error.what());
    status.failed(static_cast<int>(error.code()), error.what());
    return static_cast<int>(error.code());
  } catch (const StartError& error) {
    return fail(status, error.code(), error.what());
  } catch (const modelfile::FileError& error) {
    return fail(status, code_of(error), error.what());
  } catch (const std::exception& error) {
    return fail(status, ExitCode::fault, error.what());
  }
}

int text_command(int argc, char** argv) {
  const auto end = [](ExitCode code, const char* message) {
    std::fputs(fmt::format("chorus-router: {}\n", message).c_str(), stderr);
    return static_cast<int>(code);
  };
  try {
    return text_commands::run(argc, argv, CHORUS_VERSION);
  } catch (const StartError& error) {
    return end(error.code(), error.what());
  } catch (const modelfile::FileError& error) {
    return end(code_of(error), error.what());
  } catch (const std::exception& error) {
    return end(ExitCode::fault, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "text") return text_command(argc, argv);
  Options o;
  try {
    if (!parse(o, argc, argv)) return 0;
    process::start_log({.process = "router",
                        .json = o.json_output,
                        .level = process::parse_log_level(o.log_level)});
    if (o.parent_pid > 0) process::die_with_parent(static_cast<int>(o.parent_pid));
    if (o.status_fd >= 0) process::take_inherited(static_cast<int>(o.status_fd), "--status-fd");
    process::take_inherited(static_cast<int>(o.channel_fd), "--channel-fd");
    if (o.api_key_fd) process::take_inherited(static_cast<int>(*o.api_key_fd), "--api-key-fd");
  } catch (const StartError& error) {
    std::fputs(fmt::format("chorus-router: {}\n", error.what()).c_str(), stderr);
    return static_cast<int>(error.code());
  }
  return guarded(o);
}
