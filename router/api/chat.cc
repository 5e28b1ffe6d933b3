// A chat request from its body to its last byte: parse, render and tokenise (on a pool: a long
// prompt takes milliseconds, and the connection's thread serves others), submit, then either
// collect or stream. A stream's head waits for the first token, so that a failure before it still
// has a status; when that takes long, the head goes out with comment lines that keep proxies and
// clients waiting. Whatever way a request ends, the engine is told: an object does it that goes
// out of scope.
#include "router/api/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <random>
#include <utility>

#include "process/log.h"
#include "router/api/chat_answer.h"
#include "router/api/errors.h"
#include "router/api/generation.h"

namespace chorus::api {
namespace {

namespace asio = boost::asio;

constexpr auto kKeepAlive = std::chrono::seconds(15);

uint64_t random_number() {
  thread_local std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^
                                         std::random_device{}()};
  return generator();
}

std::string completion_id() {
  return fmt::format("chatcmpl-{:016x}{:016x}", random_number(), random_number());
}

int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// ---- before the engine ----

bool is_json(const std::string& content_type) {
  std::string type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return type == "application/json" ||
         (type.starts_with("application/") && type.ends_with("+json"));
}

using PromptTokens = tl::expected<std::vector<int32_t>, Error>;

Error refused_by_template(const text::TemplateError& error) {
  std::string message = "the model's chat template refuses the messages: " + error.message;
  if (error.line > 0) message += fmt::format(" (line {} of the template)", error.line);
  std::string param = "messages";
  if (error.message_index >= 0) param = fmt::format("messages[{}]", error.message_index);
  return {.kind = ErrorKind::template_refused,
          .message = std::move(message),
          .param = std::move(param)};
}

PromptTokens make_prompt(const Serving& serving, Json messages, int64_t now) {
  text::ChatInput input;
  input.messages = std::move(messages);
  input.now = now;
  auto chat = serving.chat_format->render(input);
  if (!chat) return tl::unexpected(refused_by_template(chat.error()));
  return serving.tokenizer->encode(chat->prompt, false);
}

// Runs on the pool.
Task<PromptTokens> make_prompt_there(const Serving* serving, Json messages, int64_t now) {
  co_return make_prompt(*serving, std::move(messages), now);
}

std::optional<Error> check_serving(const Service& service, const Readiness::Snapshot& state) {
  const Serving* serving = service.serving();
  if (state.phase != Readiness::Phase::ready || serving == nullptr) {
    return Error{.kind = ErrorKind::unavailable, .message = refusal(state)};
  }
  if (!serving->chat_format) {
    return Error{.kind = ErrorKind::template_refused,
                 .message = "this model brings no chat template, so it cannot answer messages"};
  }
  return {};
}

std::optional<Error> check_prompt(const Service& service, size_t prompt_tokens) {
  const int64_t context = service.context_max();
  const int64_t most =
      std::min(service.options().input_tokens_max.value_or(context - 1), context - 1);
  if (prompt_tokens == 0) {
    return Error{.kind = ErrorKind::template_refused,
                 .message = "the model's chat template makes an empty prompt of these messages",
                 .param = "messages"};
  }
  if (static_cast<int64_t>(prompt_tokens) <= most) return {};
  return Error{.kind = ErrorKind::context_length,
               .message = fmt::format("the messages make a prompt of {} tokens, at most {} are "
                                      "taken (the model's context holds {}, answer included)",
                                      prompt_tokens, most, context),
               .param = "messages"};
}

shards::Sampling sampling_of(const ChatRequest& request,
                             const modelfile::GenerationDefaults& model) {
  const double silent = model.do_sample == false ? 0.0 : model.temperature.value_or(1.0);
  shards::Sampling sampling;
  sampling.temperature = static_cast<float>(request.temperature.value_or(silent));
  sampling.top_p = static_cast<float>(request.top_p.value_or(model.top_p.value_or(1.0)));
  const int64_t top_k = request.top_k.value_or(model.top_k.value_or(0));
  sampling.top_k = static_cast<int>(std::clamp<int64_t>(top_k, 0, INT32_MAX));
  sampling.seed = request.seed ? static_cast<uint64_t>(*request.seed) : random_number();
  sampling.top_logprobs = request.top_logprobs;
  return sampling;
}

Error refused_by_engine(engine::Admission admission, const Service& service) {
  switch (admission) {
    case engine::Admission::queue_full:
      return {.kind = ErrorKind::overloaded,
              .message = "too many requests are waiting already: try again shortly"};
    case engine::Admission::draining:
      return {.kind = ErrorKind::unavailable,
              .message = "the server is draining and takes no new requests"};
    case engine::Admission::not_ready:
    case engine::Admission::accepted:
      break;
  }
  return {.kind = ErrorKind::unavailable, .message = refusal(service.readiness().snapshot())};
}

// ---- one request ----

class Chat {
 public:
  Chat(Service& service, Exchange& exchange) : service_(service), exchange_(exchange) {}

  Task<> run() {
    service_.metrics().add(Metric::request_count);
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::optional<Error> error = read();
    if (!error) {
      auto prompt = co_await tokenise();
      if (prompt) {
        error = check_prompt(service_, prompt->size());
        if (!error) error = submit(std::move(*prompt), executor);
      } else {
        error = std::move(prompt.error());
      }
    }
    if (error) {
      co_await refuse(std::move(*error));
    } else if (request_.stream) {
      co_await stream();
    } else {
      co_await collect();
    }
  }

  ~Chat() {
    exchange_.watch({});
    if (submitted_ && !ended_) serving_->engine->cancel(engine_id_);
  }

 private:
  std::optional<Error> read() {
    const Request& http = exchange_.request();
    if (const std::string* type = http.find("content-type"); type != nullptr && !is_json(*type)) {
      return Error{.kind = ErrorKind::unsupported_media,
                   .message = "the body must be application/json"};
    }
    auto request = parse_chat_request(http.body, service_.options().chat);
    if (!request) return std::move(request.error());
    request_ = std::move(*request);
    if (auto error = check_serving(service_, service_.readiness().snapshot())) return error;
    serving_ = service_.serving();
    if (request_.top_logprobs > serving_->engine->top_logprobs_max()) {
      return Error{.kind = ErrorKind::invalid_request,
                   .message = fmt::format("top_logprobs must be at most {} on this server",
                                          serving_->engine->top_logprobs_max()),
                   .param = "top_logprobs"};
    }
    return {};
  }

  Task<PromptTokens> tokenise() {
    auto task = make_prompt_there(serving_, std::move(request_.messages), seconds_now());
    return asio::co_spawn(service_.prompt_pool().get_executor(), std::move(task),
                          asio::use_awaitable);
  }

  std::optional<Error> submit(std::vector<int32_t> prompt, asio::any_io_executor executor) {
    const auto prompt_tokens = static_cast<int64_t>(prompt.size());
    const int64_t room = service_.context_max() - prompt_tokens;
    facts_ = {.id = completion_id(),
              .created = seconds_now(),
              .model = service_.options().model_id,
              .fingerprint = "chorus-" + service_.options().version,
              .tokenizer = serving_->tokenizer.get(),
              .logprobs = request_.logprobs,
              .top_logprobs = static_cast<size_t>(request_.top_logprobs),
              .include_usage = request_.include_usage,
              .prompt_tokens = prompt_tokens};
    inbox_ = std::make_shared<Inbox>(executor);
    generation_ =
        std::make_shared<Generation>(Generation::Options{.tokenizer = serving_->tokenizer.get(),
                                                         .end_ids = &serving_->end_ids,
                                                         .stop = std::move(request_.stop),
                                                         .logprobs = request_.logprobs,
                                                         .stream = request_.stream},
                                     inbox_);
    max_tokens_ = std::min(request_.max_tokens.value_or(room), room);
    admitted_ = Clock::now();
    const engine::Engine::Submitted submitted =
        serving_->engine->submit({.prompt = std::move(prompt),
                                  .sampling = sampling_of(request_, serving_->defaults),
                                  .max_tokens = max_tokens_,
                                  .listener = generation_});
    if (submitted.admission != engine::Admission::accepted) {
      return refused_by_engine(submitted.admission, service_);
    }
    submitted_ = true;
    engine_id_ = submitted.id;
    exchange_.watch([inbox = inbox_] { inbox->interrupt(); });
    return {};
  }

  Task<> refuse(Error error) {
    service_.metrics().add(Metric::request_failure, failure_label(error.kind));
    exchange_.set_log_detail(error.message);
    Response response = error_response(error);
    if (error.kind == ErrorKind::overloaded || error.kind == ErrorKind::unavailable) {
      response.headers.push_back({"Retry-After", "1"});
    }
    return exchange_.respond(std::move(response));
  }

  // The engine's own words are for the log; the client gets the id to ask with.
  Error failure(const End& end) const {
    process::log_error("request {} failed: {}", exchange_.request().id, end.message);
    return {.kind = ErrorKind::unavailable,
            .message = end.outcome == Outcome::cancelled
                           ? "the server ended before the answer was complete"
                           : fmt::format("the generation failed; the log knows more about "
                                         "request {}",
                                         exchange_.request().id)};
  }

  static bool complete(const End& end) {
    return end.outcome == Outcome::stop || end.outcome == Outcome::length;
  }

  Task<> collect() {
    for (;;) {
      co_await inbox_->wait(kKeepAlive);
      if (exchange_.gone()) co_return note_gone();
      std::vector<Piece> pieces = inbox_->take();
      if (pieces.empty()) continue;
      const Piece& whole = pieces.back();  // the only one
      ended_ = true;
      exchange_.watch({});
      if (!complete(*whole.end)) {
        co_await refuse(failure(*whole.end));
        co_return;
      }
      Response response;
      response.body = ChatAnswer(facts_).completion(whole);
      note_end(*whole.end);
      co_await exchange_.respond(std::move(response));
      co_return;
    }
  }

  Task<> stream() {
    const ChatAnswer answer(facts_);
    std::string buffer;
    bool started = false;
    while (!ended_) {
      co_await inbox_->wait(kKeepAlive);
      if (exchange_.gone()) co_return note_gone();
      const std::vector<Piece> pieces = inbox_->take();
      if (!started) {
        if (!pieces.empty() && pieces.front().end && !complete(*pieces.front().end)) {
          ended_ = true;
          co_await refuse(failure(*pieces.front().end));
          co_return;
        }
        const bool open = co_await exchange_.start_stream();
        if (!open) co_return note_gone();
        started = true;
        answer.append_first_chunk(buffer);
      } else if (pieces.empty()) {
        buffer += ":\n\n";
      }
      const int64_t count = append_pieces(answer, pieces, buffer);
      const bool written = co_await exchange_.write(buffer);
      if (!written) co_return note_gone();
      buffer.clear();
      if (generation_->written(count) && !ended_) serving_->engine->wake();
    }
  }

  int64_t append_pieces(const ChatAnswer& answer, const std::vector<Piece>& pieces,
                        std::string& buffer) {
    int64_t count = 0;
    for (const Piece& piece : pieces) {
      count += piece.count;
      if (!piece.text.empty() || !piece.tokens.empty()) answer.append_piece(buffer, piece);
      if (!piece.end) continue;
      ended_ = true;
      if (complete(*piece.end)) {
        answer.append_end(buffer, *piece.end);
        note_end(*piece.end);
      } else {
        const Error error = failure(*piece.end);
        service_.metrics().add(Metric::request_failure, "incomplete");
        exchange_.set_log_detail(facts_.id + " failed while streaming");
        buffer += "data: " + error_body(error) + "\n\n";
      }
    }
    return count;
  }

  void note_gone() {
    service_.metrics().add(Metric::request_failure, "dropped");
    exchange_.set_log_detail(facts_.id + " cancelled: the client is gone");
  }

  void note_end(const End& end) {
    Metrics& metrics = service_.metrics();
    const double first = seconds(end.first_token - arrived_);
    metrics.add(Metric::request_success);
    metrics.observe(Metric::request_duration, seconds(end.last_token - arrived_));
    metrics.observe(Metric::validation_duration, seconds(admitted_ - arrived_));
    metrics.observe(Metric::inference_duration, seconds(end.last_token - admitted_));
    metrics.observe(Metric::first_token_duration, first);
    metrics.observe(Metric::input_length, static_cast<double>(facts_.prompt_tokens));
    metrics.observe(Metric::generated_tokens, static_cast<double>(end.completion_tokens));
    metrics.observe(Metric::max_new_tokens, static_cast<double>(max_tokens_));
    if (end.completion_tokens > 1) {
      metrics.observe(Metric::time_per_token_duration,
                      seconds(end.last_token - end.first_token) /
                          static_cast<double>(end.completion_tokens - 1));
    }
    exchange_.set_log_detail(fmt::format("{}{} prompt {} + {} tokens, {}, first {:.1f} ms",
                                         facts_.id, request_.stream ? " stream" : "",
                                         facts_.prompt_tokens, end.completion_tokens,
                                         finish_reason(end.outcome), first * 1000));
  }

  Service& service_;
  Exchange& exchange_;
  const Clock::time_point arrived_ = Clock::now();
  Clock::time_point admitted_;
  ChatRequest request_;
  const Serving* serving_ = nullptr;
  AnswerFacts facts_;
  int64_t max_tokens_ = 0;
  std::shared_ptr<Inbox> inbox_;
  std::shared_ptr<Generation> generation_;
  engine::Engine::RequestId engine_id_ = 0;
  bool submitted_ = false;
  bool ended_ = false;
};

}  // namespace

Task<> chat_completions(Service& service, Exchange& exchange) {
  Chat chat(service, exchange);
  co_await chat.run();
}

}  // namespace chorus::api
