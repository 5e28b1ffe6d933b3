// Each prompt makes `best_of` candidates (or n choices), all at once; the choice of an answer is
// its prompt's number times the candidates of a prompt, plus its own.
#include "router/api/completions.h"

#include <fmt/format.h>

#include <boost/asio/this_coro.hpp>
#include <utility>

#include "router/api/answering.h"
#include "router/api/asking.h"
#include "router/api/completion_request.h"
#include "router/api/completion_wording.h"
#include "router/api/text_prompt.h"

namespace chorus::api {
namespace {

namespace asio = boost::asio;

Failure check_ids(const std::vector<int32_t>& ids, int64_t vocabulary, const std::string& param) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < vocabulary) continue;
    return invalid(
        fmt::format("{}[{}]", param, i),
        fmt::format("{}[{}] is token {}, the model has {}", param, i, ids[i], vocabulary));
  }
  return {};
}

class Completion {
 public:
  Completion(Service& service, Answering& answering) : service_(service), answering_(answering) {}

  Task<> run(Json body) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::optional<Error> error = read(body);
    for (size_t i = 0; !error && i < request_.prompts.size(); ++i) {
      error = co_await add_prompt(i);
    }
    if (!error) error = submit(executor);
    if (error) {
      co_await answering_.refuse(std::move(*error));
      co_return;
    }
    CompletionWording wording(std::move(facts_), std::move(format_));
    if (request_.stream) {
      co_await answering_.stream(wording);
    } else {
      co_await answering_.collect(wording);
    }
  }

 private:
  Failure read(const Json& body) {
    auto request = read_completion_request(body, service_.options().chat.generation);
    if (!request) return std::move(request.error());
    request_ = std::move(*request);
    const auto asks = static_cast<int64_t>(request_.prompts.size()) * request_.candidates();
    if (asks > service_.options().concurrent_requests_max) {
      return invalid("prompt", fmt::format("the request asks for {} completions, this server makes "
                                           "{} at once",
                                           asks, service_.options().concurrent_requests_max));
    }
    return check_against_model(request_, static_cast<int>(request_.logprobs.value_or(0)),
                               *service_.serving());
  }

  Task<std::optional<Error>> add_prompt(size_t idx) {
    CompletionPrompt& prompt = request_.prompts[idx];
    const std::string param =
        request_.prompts.size() == 1 ? "prompt" : fmt::format("prompt[{}]", idx);
    std::vector<int32_t> ids = std::move(prompt.ids);
    if (prompt.is_text) {
      ids = co_await encode_text(service_, prompt.text, request_.add_special_tokens);
    } else if (auto failure = check_ids(ids, service_.serving()->engine->vocab_size(), param)) {
      co_return failure;
    }
    const size_t whole = ids.size();
    if (auto failure = fit_prompt(ids, request_, service_, param)) co_return failure;
    const bool shown_as_sent = prompt.is_text && ids.size() == whole;
    CompletionFormatting::Prompt shown;
    if (request_.echo) {
      shown.text = shown_as_sent ? std::move(prompt.text)
                                 : decode_ids(*service_.serving()->tokenizer, ids, false);
    }
    shown.ids = std::move(ids);
    format_.prompts.push_back(std::move(shown));
    co_return std::nullopt;
  }

  std::optional<Error> submit(asio::any_io_executor executor) {
    facts_ = facts_of(service_, "cmpl-", request_.include_usage);
    for (const CompletionFormatting::Prompt& prompt : format_.prompts) {
      facts_.prompt_tokens += static_cast<int64_t>(prompt.ids.size());
    }
    format_.n = request_.n;
    format_.candidates = request_.candidates();
    format_.logprobs = request_.logprobs;
    format_.echo = request_.echo;
    format_.prompt_alone = request_.max_tokens == 0;
    format_.token_ids = request_.return_token_ids;
    AskSettings settings{
        .top_logprobs = static_cast<int>(request_.logprobs.value_or(0)),
        .keep_tokens = request_.logprobs.has_value(),
        // Who reads the prompt's cuts off one entry per completion token: all count.
        .keep_stop_tokens = request_.echo && request_.logprobs,
        .prompt_logprobs = request_.echo && request_.logprobs};
    constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's
    std::vector<Ask> asks;
    for (const CompletionFormatting::Prompt& prompt : format_.prompts) {
      settings.prompt_tail = tail_of(prompt.ids);
      for (Ask& ask : make_asks(request_, settings, prompt.ids, format_.candidates,
                                kDefaultMaxTokens, service_)) {
        asks.push_back(std::move(ask));
      }
    }
    return answering_.submit(std::move(asks), facts_.id, executor);
  }

  Service& service_;
  Answering& answering_;
  CompletionRequest request_;
  AnswerFacts facts_;
  CompletionFormatting format_;
};

}  // namespace

Task<> answer_completion(Service& service, Answering& answering, Json body) {
  Completion completion(service, answering);
  co_await completion.run(std::move(body));
}

Task<> completions(Service& service, Exchange& exchange) {
  return answer_body(service, exchange, error_response, answer_completion);
}

}  // namespace chorus::api
