// A stream's head waits for the first token, so that a failure before it still has a status; when
// that takes long, the head goes out with comment lines that keep proxies and clients waiting.
#include "router/api/answering.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "process/log.h"
#include "router/api/errors.h"

namespace chorus::api {
namespace {

constexpr auto kKeepAlive = std::chrono::seconds(15);

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

bool is_json(const std::string& content_type) {
  std::string type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return type == "application/json" ||
         (type.starts_with("application/") && type.ends_with("+json"));
}

bool complete(const End& end) {
  return end.outcome == Outcome::stop || end.outcome == Outcome::length;
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

}  // namespace

uint64_t random_number() {
  thread_local std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^
                                         std::random_device{}()};
  return generator();
}

std::string make_answer_id(std::string_view prefix) {
  return fmt::format("{}{:016x}{:016x}", prefix, random_number(), random_number());
}

int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Answering::Answering(Service& service, Exchange& exchange, ErrorForm form)
    : service_(service), exchange_(exchange), form_(form) {}

Answering::~Answering() {
  exchange_.watch({});
  for (const Choice& choice : choices_) {
    if (!choice.ended) service_.serving()->engine->cancel(choice.id);
  }
}

tl::expected<Json, Error> Answering::read_body() const {
  const std::string* type = exchange_.request().find("content-type");
  if (type != nullptr && !is_json(*type)) {
    return tl::unexpected(Error{.kind = ErrorKind::unsupported_media,
                                .message = "the body must be application/json"});
  }
  const Readiness::Snapshot state = service_.readiness().snapshot();
  if (state.phase != Readiness::Phase::ready || service_.serving() == nullptr) {
    return tl::unexpected(Error{.kind = ErrorKind::unavailable, .message = refusal(state)});
  }
  return parse_body(exchange_.request().body);
}

Task<> answer_body(Service& service, Exchange& exchange, ErrorForm form, BodyAnswer answer) {
  service.metrics().add(Metric::request_count);
  Answering answering(service, exchange, form);
  auto body = answering.read_body();
  if (body) {
    co_await answer(service, answering, std::move(*body));
  } else {
    co_await answering.refuse(std::move(body.error()));
  }
}

Task<> Answering::refuse(Error error) {
  service_.metrics().add(Metric::request_failure, failure_label(error.kind));
  exchange_.set_log_detail(error.message);
  Response response = form_(error);
  if (error.kind == ErrorKind::overloaded || error.kind == ErrorKind::unavailable) {
    response.headers.push_back({"Retry-After", "1"});
  }
  return exchange_.respond(std::move(response));
}

std::optional<Error> Answering::submit(std::vector<Ask> asks, std::string label,
                                       boost::asio::any_io_executor executor) {
  label_ = std::move(label);
  inbox_ = std::make_shared<Inbox>(executor);
  timing_.admitted = timing_.seated = Clock::now();
  engine::Engine& engine = *service_.serving()->engine;
  for (Ask& ask : asks) {
    ask.text.choice = static_cast<int>(choices_.size());
    const auto prompt_tokens = static_cast<int64_t>(ask.prompt.size());
    auto generation = std::make_shared<Generation>(std::move(ask.text), inbox_);
    const engine::Engine::Submitted submitted =
        engine.submit({.prompt = std::move(ask.prompt),
                       .sampling = std::move(ask.sampling),
                       .max_tokens = ask.max_tokens,
                       .prompt_logprobs = ask.prompt_logprobs,
                       .listener = generation});
    if (submitted.admission != engine::Admission::accepted) {
      return refused_by_engine(submitted.admission, service_);
    }
    choices_.push_back({.generation = std::move(generation),
                        .id = submitted.id,
                        .prompt_tokens = prompt_tokens,
                        .max_tokens = ask.max_tokens});
  }
  exchange_.watch([inbox = inbox_] { inbox->interrupt(); });
  return {};
}

// The engine's own words are for the log; the client gets the id to ask with.
Error Answering::failure(const End& end) const {
  process::log_error("request {} failed: {}", exchange_.request().id, end.message);
  return {.kind = ErrorKind::unavailable,
          .message = end.outcome == Outcome::cancelled
                         ? "the server ended before the answer was complete"
                         : fmt::format("the generation failed; the log knows more about "
                                       "request {}",
                                       exchange_.request().id)};
}

Task<> Answering::collect(Wording& wording) {
  std::vector<Piece> whole(choices_.size());
  while (!all_ended()) {
    co_await inbox_->wait(kKeepAlive);
    if (exchange_.gone()) co_return note_gone();
    for (Piece& piece : inbox_->take()) {  // the only one of its choice
      note_end(piece);
      if (!complete(*piece.end)) {
        Error error = failure(*piece.end);
        co_await refuse(std::move(error));
        co_return;
      }
      whole[static_cast<size_t>(piece.choice)] = std::move(piece);
    }
  }
  exchange_.watch({});
  note_answered();
  Response response = wording.whole(whole, timing_);
  co_await exchange_.respond(std::move(response));
}

Task<> Answering::stream(Wording& wording) {
  std::string buffer;
  bool started = false;
  while (!all_ended()) {
    co_await inbox_->wait(kKeepAlive);
    if (exchange_.gone()) co_return note_gone();
    const std::vector<Piece> pieces = inbox_->take();
    if (!started) {
      if (!pieces.empty() && pieces.front().end && !complete(*pieces.front().end)) {
        note_end(pieces.front());
        Error error = failure(*pieces.front().end);
        co_await refuse(std::move(error));
        co_return;
      }
      std::vector<HeaderField> headers = wording.stream_headers();
      const bool open = co_await exchange_.start_stream(std::move(headers));
      if (!open) co_return note_gone();
      started = true;
      wording.append_start(buffer);
    } else if (pieces.empty()) {
      buffer += ":\n\n";
    }
    append_pieces(wording, pieces, buffer);
    const bool written = co_await exchange_.write(buffer);
    if (!written) co_return note_gone();
    buffer.clear();
    if (take_written(pieces) && !all_ended()) service_.serving()->engine->wake();
  }
}

void Answering::append_pieces(Wording& wording, std::span<const Piece> pieces,
                              std::string& buffer) {
  for (const Piece& piece : pieces) {
    if (piece.end) note_end(piece);
    if (piece.end && !complete(*piece.end)) {
      const Error error = failure(*piece.end);
      service_.metrics().add(Metric::request_failure, "incomplete");
      exchange_.set_log_detail(label_ + " failed while streaming");
      buffer += "data: " + form_(error).body + "\n\n";
      ended_count_ = choices_.size();  // the others are cancelled
      return;
    }
    wording.append_piece(buffer, piece);
  }
  if (!all_ended()) return;
  wording.append_close(buffer);
  note_answered();
}

// True where some sequence had paused and is to go on.
bool Answering::take_written(std::span<const Piece> pieces) {
  bool wake = false;
  for (const Piece& piece : pieces) {
    Choice& choice = choices_[static_cast<size_t>(piece.choice)];
    wake = choice.generation->written(piece.count) || wake;
  }
  return wake;
}

void Answering::note_gone() {
  service_.metrics().add(Metric::request_failure, "dropped");
  exchange_.set_log_detail(label_ + " cancelled: the client is gone");
}

void Answering::note_end(const Piece& piece) {
  Choice& choice = choices_[static_cast<size_t>(piece.choice)];
  choice.ended = true;
  ++ended_count_;
  const End& end = *piece.end;
  if (!complete(end)) return;
  reason_ = end.outcome == Outcome::length ? "length" : "stop";
  completion_tokens_ += end.completion_tokens;
  const double first = seconds(end.first_token - timing_.arrived);
  if (ended_count_ == 1) first_ms_ = first * 1000;
  Metrics& metrics = service_.metrics();
  timing_.seated = std::max(timing_.seated, end.seated);
  metrics.observe(Metric::queue_duration, std::max(0.0, seconds(end.seated - timing_.admitted)));
  metrics.observe(Metric::inference_duration, seconds(end.last_token - end.seated));
  metrics.observe(Metric::first_token_duration, first);
  metrics.observe(Metric::input_length, static_cast<double>(choice.prompt_tokens));
  metrics.observe(Metric::generated_tokens, static_cast<double>(end.completion_tokens));
  metrics.observe(Metric::max_new_tokens, static_cast<double>(choice.max_tokens));
  if (end.completion_tokens > 1) {
    metrics.observe(
        Metric::time_per_token_duration,
        seconds(end.last_token - end.first_token) / static_cast<double>(end.completion_tokens - 1));
  }
}

void Answering::note_answered() {
  Metrics& metrics = service_.metrics();
  metrics.add(Metric::request_success);
  metrics.observe(Metric::request_duration, seconds(Clock::now() - timing_.arrived));
  metrics.observe(Metric::validation_duration, seconds(timing_.admitted - timing_.arrived));
  int64_t prompt_tokens = 0;
  for (const Choice& choice : choices_) prompt_tokens += choice.prompt_tokens;
  exchange_.set_log_detail(fmt::format("{} prompt {} + {} tokens, {}, first {:.1f} ms", label_,
                                       prompt_tokens, completion_tokens_, reason_, first_ms_));
}

}  // namespace chorus::api
