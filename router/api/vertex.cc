// Vertex AI's envelope. Each instance is a prompt or a conversation; all are generated at once.
#include <fmt/format.h>

#include <boost/asio/this_coro.hpp>
#include <utility>

#include "router/api/answering.h"
#include "router/api/asking.h"
#include "router/api/chat_prompt.h"
#include "router/api/generate.h"
#include "router/api/generate_request.h"
#include "router/api/generate_wording.h"
#include "router/api/text_prompt.h"

namespace chorus::api {
namespace {

namespace asio = boost::asio;

class VertexWording final : public Wording {
 public:
  void append_piece(std::string&, const Piece&) override {}  // there is no stream here
  void append_close(std::string&) override {}
  Response whole(std::span<const Piece> choices, const Timing&) override {
    std::string body = "{\"predictions\":[";
    for (const Piece& piece : choices) {
      if (piece.choice > 0) body += ',';
      append_json_string(body, piece.text);
    }
    return {.body = body + "]}"};
  }
};

class Vertex {
 public:
  Vertex(Service& service, Answering& answering) : service_(service), answering_(answering) {}

  Task<> run(Json body) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::optional<Error> error = check_body(body);
    if (!error) {
      const Json& instances = body["instances"];
      for (size_t i = 0; !error && i < instances.size(); ++i) {
        error = co_await add_instance(instances[i], i);
      }
    }
    if (!error) error = answering_.submit(std::move(asks_), make_answer_id("vertex-"), executor);
    if (error) {
      co_await answering_.refuse(std::move(*error));
      co_return;
    }
    VertexWording wording;
    co_await answering_.collect(wording);
  }

 private:
  Failure check_body(const Json& body) const {
    static constexpr Shape kInstance{.types = kObject};
    static constexpr Property kProperties[] = {
        {.name = "instances",
         .shape = {.types = kArray, .items_min = 1, .items = &kInstance},
         .required = true}};
    if (Failure failure = check({.types = kObject, .properties = kProperties}, body, {})) {
      return failure;
    }
    const auto instances = static_cast<int64_t>(body["instances"].size());
    const int64_t most = service_.options().concurrent_requests_max;
    if (instances <= most) return {};
    return invalid("instances", fmt::format("instances holds {} elements, this server generates {} "
                                            "at once",
                                            instances, most));
  }

  Task<std::optional<Error>> add_instance(const Json& instance, size_t idx) {
    std::optional<Error> error;
    if (find(instance, "messages") != nullptr) {
      error = co_await add_chat(instance);
    } else {
      error = co_await add_text(instance);
    }
    if (error) error->param = fmt::format("instances[{}].{}", idx, error->param);
    co_return error;
  }

  Task<std::optional<Error>> add_chat(const Json& instance) {
    auto request = read_chat_request(instance, service_.options().chat);
    if (!request) co_return std::move(request.error());
    request->stream = false;
    if (auto failure = find_unbuilt(*request)) co_return failure;
    if (auto failure = check_against_model(*request, 0, *service_.serving())) co_return failure;
    auto prompt = co_await make_chat_prompt(service_, *request, answering_.body_bytes());
    if (!prompt) co_return std::move(prompt.error());
    co_return add(*request, std::move(prompt->ids), "messages", {});
  }

  Task<std::optional<Error>> add_text(const Json& instance) {
    auto request = read_generate_request(instance, false, service_.options().generate);
    if (!request) co_return std::move(request.error());
    request->stream = false;
    if (auto failure = check_against_model(*request, 0, *service_.serving())) co_return failure;
    std::string inputs = request->inputs;
    std::vector<int32_t> ids = co_await encode_text(service_, std::move(inputs), true);
    std::vector<int32_t> tail = tail_of(ids);
    co_return add(*request, std::move(ids), "inputs", std::move(tail));
  }

  std::optional<Error> add(const GenerationFields& fields, std::vector<int32_t> ids,
                           std::string_view param, std::vector<int32_t> tail) {
    if (auto error = fit_prompt(ids, fields, service_, param)) return error;
    AskSettings settings{.prompt_tail = std::move(tail)};
    for (Ask& ask : make_asks(fields, settings, ids, 1, {}, service_)) {
      asks_.push_back(std::move(ask));
    }
    return {};
  }

  Service& service_;
  Answering& answering_;
  std::vector<Ask> asks_;
};

Task<> answer_vertex(Service& service, Answering& answering, Json body) {
  Vertex vertex(service, answering);
  co_await vertex.run(std::move(body));
}

}  // namespace

Task<> vertex(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, generate_error_response, answer_vertex);
}

}  // namespace chorus::api
