// The API as one object: what http calls with each request, and what main feeds as the model comes
// up. Made before there is a model, so that the port answers at once (health, info, 503).
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "modelfile/model.h"
#include "router/api/api_keys.h"
#include "router/api/chat_request.h"
#include "router/api/exchange.h"
#include "router/api/generate_request.h"
#include "router/api/metrics.h"
#include "router/api/readiness.h"
#include "router/engine/engine.h"
#include "router/text/chat_format.h"
#include "router/text/tokenizer.h"

namespace chorus::api {

struct ServiceOptions {
  std::string model_id;  // as /v1/models and the answers name it
  std::string version;
  std::string model_sha = {};  // its revision, where known
  ChatLimits chat = {};
  GenerateLimits generate = {};
  std::optional<int64_t> input_tokens_max = {};  // --max-input-tokens
  std::optional<int64_t> total_tokens_max = {};  // --max-total-tokens
  int64_t concurrent_requests_max = 128;         // for /info; the engine enforces it
  int prompt_threads = 2;                        // that render and tokenise
  ApiKeys* keys = nullptr;                       // outlives the service; nullptr: everybody may ask
  bool metrics_need_key = false;
  bool messages_api = false;       // /invocations takes messages (MESSAGES_API_ENABLED)
  std::string predict_route = {};  // Vertex AI's AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE: more
  std::string health_route = {};   // paths for /vertex and /health
};

// The model's side of a request.
struct Serving {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::optional<text::ChatFormat> chat_format;
  modelfile::GenerationDefaults defaults;
  engine::Engine* engine = nullptr;  // outlives every request
  std::vector<bool> end_ids = {};    // by token id; filled by Service::serve
  std::string compute_type = "cpu";  // for TGI's x-compute-type
};

struct Route;

class Service {
 public:
  explicit Service(ServiceOptions options);
  ~Service();

  // Once, from any thread: requests are answered from now on, and readiness becomes ready. After a
  // loss of the shards, readiness alone changes.
  void serve(Serving serving);

  Readiness& readiness() { return readiness_; }
  const Readiness& readiness() const { return readiness_; }
  Metrics& metrics() { return metrics_; }
  const ServiceOptions& options() const { return options_; }
  const Serving* serving() const { return serving_.load(std::memory_order_acquire); }
  boost::asio::thread_pool& prompt_pool() { return prompt_pool_; }
  int64_t started() const { return started_; }  // seconds since 1970
  int64_t context_max() const;                  // prompt and answer; 0 before serve()
  // As answers name the server: its version and its model.
  const std::string& fingerprint() const { return fingerprint_; }

  Task<> handle(Exchange& exchange);  // routes the request and answers it
  EntryPoint entry();                 // for http; refers to this
  // For http, refers to this: refuses with 401 what needs a key and brings none of ours, and with
  // 503 what is no probe on a spare connection. Where there are keys, handle() answers a route that
  // needs one only after this has let the request pass.
  Gate gate();

 private:
  bool needs_key(const Route* route) const;
  std::string_view known_path(std::string_view path) const;

  const ServiceOptions options_;
  const std::string fingerprint_;
  const int64_t started_;
  Readiness readiness_;
  Metrics metrics_;
  std::unique_ptr<Serving> owned_serving_;
  std::atomic<const Serving*> serving_{nullptr};
  boost::asio::thread_pool prompt_pool_;
};

}  // namespace chorus::api
