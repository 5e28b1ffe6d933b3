// The loop around the planner. All state but the admission count and the statistics belongs to who
// has the turn. Results take it on the link's own thread: a hop to the loop would cost a thread's
// waking in every step, and a step written by another thread than the one that reads makes gRPC
// hand it to a third. Everything else, which is rare beside the steps, takes it on the loop's
// thread. Submits are posted while the admission lock is held, so that requests reach the planner
// in the order of their ids, and none can slip in behind the post that fails everything when the
// link is lost.
// On a result, first a step goes out if none is in flight (so that text work never holds back the
// shards), then the listeners hear their tokens, then the next step is planned, knowing who
// stopped.
#include "router/engine/driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cassert>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "process/log.h"
#include "router/engine/planner.h"
#include "router/engine/request_limits.h"

namespace chorus::engine {
namespace {

namespace asio = boost::asio;

class LoopDriver final : public Driver, public Engine {
 public:
  LoopDriver(std::unique_ptr<shards::Link> link, const shards::ShardInfo& info,
             const EngineOptions& options, std::function<void(std::string)> on_lost)
      : link_(std::move(link)),
        planner_(info, {.prefill_tokens_max = options.prefill_tokens_max,
                        .batch_size_max = options.batch_size_max}),
        requests_max_(options.concurrent_requests_max),
        limits_{.context_max = planner_.context_max(),
                .vocab_size = info.vocab_size,
                .top_logprobs_max = info.top_logprobs_max},
        on_lost_(std::move(on_lost)),
        work_(asio::make_work_guard(loop_)),
        stats_(planner_.stats()) {}

  ~LoopDriver() override {
    assert(thread_.get_id() != std::this_thread::get_id());
    close_admission(State::closed);
    post([this] {
      end_all(FinishReason::cancelled, "");
      closed_ = true;
      loop_.stop();
    });
    thread_.join();
    link_.reset();  // its thread may post until here
  }

  void run() {
    link_->start({.on_result =
                      [this](shards::StepResult result) {
                        std::lock_guard turn(turn_);
                        if (!lost_ && !closed_) take_result(std::move(result));
                      },
                  .on_lost =
                      [this](std::string reason) {
                        post([this, reason = std::move(reason)] { lose(reason); });
                      }});
    thread_ = std::thread([this] { loop_.run(); });
  }

  Engine& engine() override { return *this; }

  void drain(std::function<void()> done) override {
    close_admission(State::draining);
    post([this, done = std::move(done)]() mutable {
      drained_.push_back(std::move(done));
      tell_drained();
    });
  }

  Submitted submit(GenerationRequest request) override {
    assert(request.listener);
    std::lock_guard lock(admission_);
    if (state_ == State::draining) return {Admission::draining, 0};
    if (state_ != State::open) return {Admission::not_ready, 0};
    if (admitted_ >= requests_max_) return {Admission::queue_full, 0};
    ++admitted_;
    RequestId id = ++last_id_;
    post([this, id, request = std::move(request)]() mutable { begin(id, std::move(request)); });
    return {Admission::accepted, id};
  }

  void cancel(RequestId id) override {
    post([this, id] {
      if (!clients_.contains(id)) return;
      planner_.cancel(id);
      finish(id, FinishReason::cancelled, "");
      send_steps();
    });
  }

  void wake() override {
    if (waking_.exchange(true)) return;
    post([this] {
      waking_ = false;  // before looking: who becomes ready from here on posts again
      resume_ready();
      send_steps();
    });
  }

  EngineStats stats() const override {
    std::lock_guard lock(stats_lock_);
    return stats_;
  }
  int64_t context_max() const override { return limits_.context_max; }
  int64_t vocab_size() const override { return limits_.vocab_size; }
  int top_logprobs_max() const override { return limits_.top_logprobs_max; }

 private:
  struct Client {
    std::shared_ptr<TokenListener> listener;
    bool seated = false;  // it was told
  };

  template <class Work>
  void post(Work work) {
    asio::post(loop_, [this, work = std::move(work)]() mutable {
      std::lock_guard turn(turn_);
      work();
    });
  }

  enum class State { open, draining, lost, closed };  // only ever goes further

  void close_admission(State state) {
    std::lock_guard lock(admission_);
    state_ = std::max(state_, state);
  }

  void begin(RequestId id, GenerationRequest request) {
    clients_.emplace(id, Client{.listener = std::move(request.listener)});
    if (lost_) return finish(id, FinishReason::failed, lost_reason_);
    if (auto fault = find_fault(request, limits_)) {
      process::log_error("request {}: {}", id, *fault);
      return finish(id, FinishReason::failed, fmt::format("request {}: {}", id, *fault));
    }
    planner_.submit(id, {.prompt = std::move(request.prompt),
                         .sampling = std::move(request.sampling),
                         .max_tokens = request.max_tokens,
                         .prompt_logprobs = request.prompt_logprobs});
    send_steps();
  }

  void send_steps() {
    while (!lost_) {
      std::optional<shards::Step> step = planner_.plan();
      if (!step) break;
      send(*step);
    }
    publish_stats();
  }

  void send(const shards::Step& step) {
    link_->send(step);
    for (const shards::Row& row : step.rows) {
      if (row.start) tell_seated(static_cast<RequestId>(row.start->sequence));
    }
  }

  void tell_seated(RequestId id) {
    Client& client = clients_.at(id);
    if (std::exchange(client.seated, true)) return;
    if (!guarded(id, "the listener", [&] { client.listener->seated(); })) fail(id);
  }

  void publish_stats() {
    EngineStats stats = planner_.stats();
    std::lock_guard lock(stats_lock_);
    stats_ = stats;
  }

  void take_result(shards::StepResult result) {
    Planner::Completed completed = planner_.complete(std::move(result));
    if (completed.fault) return lose(*completed.fault);
    if (planner_.in_flight() == 0) {
      if (std::optional<shards::Step> step = planner_.plan()) send(*step);
    }
    for (const Planner::PromptTokens& prompt : completed.prompts) deliver(prompt);
    for (const Planner::Token& token : completed.tokens) deliver(token);
    for (const Planner::Token& token : completed.tokens) flush(token.id);
    send_steps();
  }

  // The boundary to the listeners: what they throw ends their request, nothing else.
  template <class Call>
  bool guarded(RequestId id, const char* what, Call call) {
    try {
      call();
      return true;
    } catch (const std::exception& error) {
      process::log_error("request {}: {} threw: {}", id, what, error.what());
      return false;
    }
  }

  void deliver(const Planner::PromptTokens& prompt) {
    TokenListener& listener = *clients_.at(prompt.id).listener;
    bool sound = guarded(prompt.id, "the listener", [&] { listener.prompt(prompt.tokens); });
    if (!sound) fail(prompt.id);
  }

  void deliver(const Planner::Token& token) {
    auto found = clients_.find(token.id);
    if (found == clients_.end()) return;  // its prompt failed it
    TokenListener& listener = *found->second.listener;
    Verdict verdict = Verdict::go_on;
    bool ready = true;
    bool sound = guarded(token.id, "the listener", [&] {
      verdict = listener.accept(token.token);
      ready = token.last || verdict == Verdict::stop || listener.ready();
    });
    if (!sound) return fail(token.id);
    if (verdict == Verdict::stop) {
      planner_.cancel(token.id);
      finish(token.id, FinishReason::stopped, "");
    } else if (token.last) {
      finish(token.id, FinishReason::length, "");
    } else if (!ready) {
      planner_.pause(token.id);
      paused_.insert(token.id);
    }
  }

  void flush(RequestId id) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return;
    if (!guarded(id, "the listener", [&] { found->second.listener->flush(); })) fail(id);
  }

  void resume_ready() {
    std::vector<RequestId> waiting(paused_.begin(), paused_.end());
    for (RequestId id : waiting) {
      bool ready = false;
      bool sound = guarded(id, "the listener", [&] { ready = clients_.at(id).listener->ready(); });
      if (!sound) {
        fail(id);
      } else if (ready) {
        paused_.erase(id);
        planner_.resume(id);
      }
    }
  }

  void fail(RequestId id) {
    planner_.cancel(id);
    finish(id, FinishReason::failed, fmt::format("internal fault in request {}", id));
  }

  // The request is gone before its listener hears of it, so that the listener may submit anew.
  void finish(RequestId id, FinishReason reason, const std::string& message) {
    std::shared_ptr<TokenListener> listener = std::move(clients_.extract(id).mapped().listener);
    paused_.erase(id);
    {
      std::lock_guard lock(admission_);
      --admitted_;
    }
    guarded(id, "the listener's end", [&] { listener->finished(reason, message); });
    tell_drained();
  }

  void end_all(FinishReason reason, const std::string& message) {
    std::vector<RequestId> ids;
    for (const auto& [id, client] : clients_) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    for (RequestId id : ids) {
      planner_.cancel(id);
      finish(id, reason, message);
    }
    publish_stats();
  }

  void tell_drained() {
    {
      std::lock_guard lock(admission_);
      if (admitted_ > 0) return;
    }
    for (std::function<void()>& done : std::exchange(drained_, {})) done();
  }

  void lose(const std::string& reason) {
    if (lost_) return;
    lost_ = true;
    lost_reason_ = reason;
    process::log_error("the shards are gone: {}", reason);
    close_admission(State::lost);
    // Behind every submit that was let in before.
    post([this] {
      end_all(FinishReason::failed, lost_reason_);
      if (on_lost_) on_lost_(lost_reason_);
    });
  }

  std::unique_ptr<shards::Link> link_;
  Planner planner_;
  const int64_t requests_max_;
  const RequestLimits limits_;
  std::function<void(std::string)> on_lost_;

  asio::io_context loop_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::mutex turn_;  // guards the planner, sending, and what stands from here to lost_reason_
  std::unordered_map<RequestId, Client> clients_;
  std::unordered_set<RequestId> paused_;
  std::vector<std::function<void()>> drained_;
  bool closed_ = false;
  bool lost_ = false;
  std::string lost_reason_;
  std::atomic<bool> waking_ = false;

  std::mutex admission_;  // guards the next three
  State state_ = State::open;
  int64_t admitted_ = 0;
  RequestId last_id_ = 0;

  mutable std::mutex stats_lock_;
  EngineStats stats_;

  std::thread thread_;
};

}  // namespace

std::unique_ptr<Driver> Driver::start(std::unique_ptr<shards::Link> link,
                                      const shards::ShardInfo& info, const EngineOptions& options,
                                      std::function<void(std::string)> on_lost) {
  auto driver = std::make_unique<LoopDriver>(std::move(link), info, options, std::move(on_lost));
  driver->run();
  return driver;
}

}  // namespace chorus::engine
