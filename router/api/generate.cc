#include "router/api/generate.h"

#include <fmt/format.h>

#include <boost/asio/this_coro.hpp>
#include <utility>

#include "router/api/answering.h"
#include "router/api/asking.h"
#include "router/api/chat.h"
#include "router/api/completions.h"
#include "router/api/generate_request.h"
#include "router/api/generate_wording.h"
#include "router/api/text_prompt.h"

namespace chorus::api {
namespace {

namespace asio = boost::asio;

struct Style {
  bool stream = false;
  bool compat = false;  // `/`: the body may ask for a stream; whole answers are lists of one
};

class Generate {
 public:
  Generate(Service& service, Answering& answering, Style style)
      : service_(service), answering_(answering), style_(style) {}

  Task<> run(Json body) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::optional<Error> error = read(body);
    if (!error) {
      const bool add_special = true;
      std::string inputs = request_.inputs;
      std::vector<int32_t> ids = co_await encode_text(service_, std::move(inputs), add_special);
      error = submit(std::move(ids), executor);
    }
    if (error) {
      co_await answering_.refuse(std::move(*error));
      co_return;
    }
    GenerateWording wording(std::move(format_));
    if (request_.stream) {
      co_await answering_.stream(wording);
    } else {
      co_await answering_.collect(wording);
    }
  }

 private:
  Failure read(const Json& body) {
    auto request = read_generate_request(body, style_.stream, service_.options().generate);
    if (!request) return std::move(request.error());
    request_ = std::move(*request);
    if (!style_.compat) request_.stream = style_.stream;
    if (request_.stream) answering_.set_error_form(generate_error_event);
    return check_against_model(request_, static_cast<int>(request_.top_n_tokens),
                               *service_.serving());
  }

  std::optional<Error> submit(std::vector<int32_t> ids, asio::any_io_executor executor) {
    if (auto error = fit_prompt(ids, request_, service_, "inputs")) return error;
    const bool full_text = request_.return_full_text.value_or(false);
    AskSettings settings{.top_logprobs = static_cast<int>(request_.top_n_tokens),
                         .keep_tokens = request_.stream || request_.wants_details(),
                         .keep_stop_tokens = true,
                         .prompt_logprobs = request_.decoder_input_details,
                         .prompt_tail = tail_of(ids)};
    std::vector<Ask> asks = make_asks(request_, settings, ids, request_.best_of, {}, service_);
    format_ = {.tokenizer = service_.serving()->tokenizer.get(),
               .prefix = full_text ? request_.inputs : std::string(),
               .details = request_.wants_details(),
               .top_n_tokens = static_cast<size_t>(request_.top_n_tokens),
               .prompt = std::move(ids),
               .prompt_details = request_.decoder_input_details,
               .input_characters = request_.inputs.size(),
               .compute_type = service_.serving()->compute_type,
               .in_list = style_.compat};
    if (asks.front().sampling.temperature > 0) format_.seed = asks.front().sampling.seed;
    return answering_.submit(std::move(asks), make_answer_id("gen-"), executor);
  }

  Service& service_;
  Answering& answering_;
  const Style style_;
  GenerateRequest request_;
  GenerateFormatting format_;
};

template <bool kStream, bool kCompat>
Task<> answer_generate(Service& service, Answering& answering, Json body) {
  Generate generate(service, answering, {.stream = kStream, .compat = kCompat});
  co_await generate.run(std::move(body));
}

Task<> answer_invocations(Service& service, Answering& answering, Json body) {
  const bool chat = service.options().messages_api || find(body, "messages") != nullptr;
  if (find(body, "inputs") != nullptr) {
    answering.set_error_form(generate_error_response);
    co_await answer_generate<false, true>(service, answering, std::move(body));
  } else if (chat) {
    co_await answer_chat(service, answering, std::move(body));
  } else if (find(body, "prompt") != nullptr) {
    co_await answer_completion(service, answering, std::move(body));
  } else {
    Error error = invalid("inputs", "the body must have inputs, messages or prompt");
    co_await answering.refuse(std::move(error));
  }
}

}  // namespace

Task<> generate(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, generate_error_response, answer_generate<false, false>);
}

Task<> generate_stream(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, generate_error_event, answer_generate<true, false>);
}

Task<> generate_compat(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, generate_error_response, answer_generate<false, true>);
}

Task<> invocations(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, error_response, answer_invocations);
}

}  // namespace chorus::api
