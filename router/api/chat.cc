// A chat request from its body to its last byte: parse, render and tokenise, submit, then either
// collect or stream.
#include "router/api/chat.h"

#include <boost/asio/this_coro.hpp>
#include <utility>

#include "router/api/answering.h"
#include "router/api/asking.h"
#include "router/api/chat_prompt.h"
#include "router/api/chat_request.h"
#include "router/api/chat_wording.h"
#include "router/api/text_prompt.h"

namespace chorus::api {
namespace {

namespace asio = boost::asio;

// The text of the last message, for `echo`.
std::string final_text(const Json& messages) {
  const Json& content = messages.back().at("content");
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  for (const Json& part : content) {
    if (const Json* piece = find(part, "text")) text += piece->get_ref<const std::string&>();
  }
  return text;
}

Failure check_request(const ChatRequest& request, const Service& service) {
  if (Failure failure = find_unbuilt(request)) return failure;
  if (request.n > service.options().concurrent_requests_max) {
    return invalid("n", "n is more than this server answers at once");
  }
  return check_against_model(request, static_cast<int>(request.top_logprobs.value_or(0)),
                             *service.serving());
}

class Chat {
 public:
  Chat(Service& service, Answering& answering) : service_(service), answering_(answering) {}

  Task<> run(Json body) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    auto request = read_chat_request(body, service_.options().chat);
    std::optional<Error> error;
    if (!request) {
      error = std::move(request.error());
    } else {
      request_ = std::move(*request);
      error = check_request(request_, service_);
    }
    if (!error) {
      if (request_.echo && request_.continue_final_message) echo_ = final_text(request_.messages);
      auto prompt = co_await make_chat_prompt(service_, request_, answering_.body_bytes());
      error = prompt ? submit(std::move(*prompt), executor) : std::move(prompt.error());
    }
    if (error) {
      co_await answering_.refuse(std::move(*error));
      co_return;
    }
    ChatWording wording(std::move(facts_), std::move(format_));
    if (request_.stream) {
      co_await answering_.stream(wording);
    } else {
      co_await answering_.collect(wording);
    }
  }

 private:
  std::optional<Error> submit(ChatPrompt prompt, asio::any_io_executor executor) {
    if (auto error = fit_prompt(prompt.ids, request_, service_, "messages")) return error;
    facts_ = facts_of(service_, "chatcmpl-", request_.include_usage);
    facts_.prompt_tokens = static_cast<int64_t>(prompt.ids.size());
    format_ = {.choices = request_.n,
               .logprobs = request_.logprobs,
               .top_logprobs = static_cast<size_t>(request_.top_logprobs.value_or(0)),
               .prefix = std::move(echo_),
               .token_ids = request_.return_token_ids};
    if (format_.token_ids) format_.prompt = prompt.ids;
    AskSettings settings{.top_logprobs = static_cast<int>(format_.top_logprobs),
                         .keep_tokens = request_.logprobs};
    if (request_.continue_final_message) settings.prompt_tail = tail_of(prompt.ids);
    std::vector<Ask> asks = make_asks(request_, settings, prompt.ids, request_.n, {}, service_);
    return answering_.submit(std::move(asks), facts_.id, executor);
  }

  Service& service_;
  Answering& answering_;
  ChatRequest request_;
  std::string echo_;
  AnswerFacts facts_;
  ChatFormatting format_;
};

}  // namespace

Task<> answer_chat(Service& service, Answering& answering, Json body) {
  Chat chat(service, answering);
  co_await chat.run(std::move(body));
}

Task<> chat_completions(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, error_response, answer_chat);
}

}  // namespace chorus::api
