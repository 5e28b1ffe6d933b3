// Each token becomes at most one piece; pieces are posted to the connection, so nothing here waits.
// A client that reads slowly lets its pieces pile up to `unwritten_max`, then ready() is false
// until written() crosses the border again: whoever crosses it wakes the engine, so no wake is lost
// between the two threads.
#include "router/api/generation.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cassert>
#include <utility>

#include "router/api/postbox.h"

namespace chorus::api {

namespace asio = boost::asio;

Inbox::Inbox(asio::any_io_executor executor)
    : executor_(executor), postbox_(Postbox::of(executor)), timer_(executor) {}

void Inbox::post(std::shared_ptr<Inbox> inbox, Piece piece, Departure departure) {
  Postbox& postbox = inbox->postbox_;
  const asio::any_io_executor executor = inbox->executor_;
  postbox.put(std::move(inbox), std::move(piece));
  if (departure == Departure::at_once) postbox.flush(executor);
}

void Inbox::flush() const {
  postbox_.flush(executor_);
}

void Inbox::receive(Piece piece) {
  pieces_.push_back(std::move(piece));
  timer_.cancel();
}

Task<> Inbox::wait(Clock::duration at_most) {
  if (!pieces_.empty() || std::exchange(interrupted_, false)) co_return;
  timer_.expires_after(at_most);
  co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
  interrupted_ = false;
}

std::vector<Piece> Inbox::take() {
  return std::exchange(pieces_, {});
}

void Inbox::interrupt() {
  interrupted_ = true;
  timer_.cancel();
}

Generation::Generation(Options options, std::shared_ptr<Inbox> inbox)
    : options_(std::move(options)),
      inbox_(std::move(inbox)),
      detokenizer_(*options_.tokenizer, {.stops = options_.stop,
                                         .include_stop = options_.include_stop,
                                         .skip_special_tokens = options_.skip_special_tokens,
                                         .prompt_tail = options_.prompt_tail}) {}

bool Generation::is_end(int32_t id) const {
  const auto& stops = options_.stop_ids;
  if (std::find(stops.begin(), stops.end(), id) != stops.end()) return true;
  if (options_.end_ids == nullptr) return false;
  const auto& ends = *options_.end_ids;
  return id >= 0 && static_cast<size_t>(id) < ends.size() && ends[static_cast<size_t>(id)];
}

void Generation::seated() {
  end_.seated = Clock::now();
}

void Generation::prompt(const std::vector<shards::SampledToken>& tokens) {
  piece_.prompt.insert(piece_.prompt.end(), tokens.begin(), tokens.end());
}

engine::Verdict Generation::accept(const shards::SampledToken& token) {
  assert(!ended_);
  end_.last_token = Clock::now();
  end_.logprob_sum += token.logprob;
  if (end_.completion_tokens++ == 0) end_.first_token = end_.last_token;
  const bool end = is_end(token.id);
  if (options_.keep_tokens && (!end || options_.keep_stop_tokens)) {
    held_.push_back({.token = token, .begin = detokenizer_.text_bytes()});
  }
  if (end) {
    show(detokenizer_.finish());
    return stop(StopCause::end_token);
  }
  text::StopStrings::Result result = detokenizer_.push(token.id);
  show(std::move(result.text));
  if (result.matched) {
    if (!options_.keep_stop_tokens) held_.clear();  // inside the stop string: not in the answer
    return stop(StopCause::stop_string);
  }
  const bool something = !piece_.text.empty() || !piece_.tokens.empty();
  const bool last = end_.completion_tokens == options_.max_tokens;  // finished() comes next
  if (options_.stream && something && !last) send({});
  return engine::Verdict::go_on;
}

engine::Verdict Generation::stop(StopCause cause) {
  end_.cause = cause;
  finish(Outcome::stop, {});
  return engine::Verdict::stop;
}

void Generation::show(std::string text) {
  shown_bytes_ += static_cast<int64_t>(text.size());
  piece_.text += text;
  release(false);
}

// A token belongs to the piece that shows the first byte of its text, or of the character that it
// goes on with.
void Generation::release(bool all) {
  while (!held_.empty() && (all || held_.front().begin < shown_bytes_)) {
    piece_.tokens.push_back(std::move(held_.front().token));
    held_.pop_front();
  }
}

void Generation::send(std::optional<End> end) {
  const bool last = end.has_value();
  piece_.choice = options_.choice;
  piece_.count = 1;
  piece_.end = std::move(end);
  ++unwritten_;
  Inbox::post(last ? std::move(inbox_) : inbox_, std::exchange(piece_, {}),
              last ? Inbox::Departure::at_once : Inbox::Departure::with_others);
}

void Generation::flush() {
  if (inbox_) inbox_->flush();
}

void Generation::finish(Outcome outcome, std::string message) {
  release(true);
  ended_ = true;
  end_.outcome = outcome;
  end_.message = std::move(message);
  send(end_);
}

bool Generation::ready() const {
  return !options_.stream || unwritten_ < options_.unwritten_max;
}

void Generation::finished(engine::FinishReason reason, const std::string& message) {
  if (ended_) return;  // accept() has said so
  switch (reason) {
    case engine::FinishReason::stopped:  // only after our own verdict
      return finish(Outcome::failed, "the engine stopped a sequence by itself");
    case engine::FinishReason::length:
      show(detokenizer_.finish());
      return finish(Outcome::length, {});
    case engine::FinishReason::cancelled:
      return finish(Outcome::cancelled, {});
    case engine::FinishReason::failed:
      return finish(Outcome::failed, message);
  }
}

bool Generation::written(int64_t count) {
  const int64_t before = unwritten_.fetch_sub(count);
  return before >= options_.unwritten_max && before - count < options_.unwritten_max;
}

}  // namespace chorus::api
