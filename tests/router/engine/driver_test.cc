// The driver with the fake shard behind a link of its own thread, and behind one whose answers the
// test gives by hand. Nothing sleeps: the tests wait for promises.
#include "router/engine/driver.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "tests/router/engine/fake_shard.h"

namespace chorus::engine {
namespace {

// Executes steps on a thread, as a stream to a shard would.
class ThreadLink final : public shards::Link {
 public:
  explicit ThreadLink(const shards::ShardInfo& info) : shard_(info) {}
  ~ThreadLink() override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  void start(Callbacks callbacks) override {
    thread_ = std::thread([this, callbacks = std::move(callbacks)] { execute(callbacks); });
  }
  void send(const shards::Step& step) override {
    std::lock_guard lock(mutex_);
    shard_.receive(step);
    changed_.notify_all();
  }

 private:
  void execute(const Callbacks& callbacks) {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return closing_ || shard_.has_work(); });
      if (closing_) return;
      shards::StepResult result = shard_.execute();
      // In truth a little later; when it is safe to reuse what is the simulation's subject.
      shard_.delivered(result.number);
      lock.unlock();
      callbacks.on_result(std::move(result));
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  FakeShard shard_;
  bool closing_ = false;
  std::thread thread_;
};

// The test is the shard: it sees the steps and answers when it likes.
struct Hand {
  shards::Link::Callbacks callbacks;  // come on the link's thread, whoever calls them
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<shards::Step> steps;
  std::deque<std::function<void()>> calls;
  bool calling = false;
  bool closing = false;

  shards::Step next() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return !steps.empty(); });
    shards::Step step = std::move(steps.front());
    steps.pop_front();
    return step;
  }
  void answer(const shards::Step& step, int32_t token) const {
    shards::StepResult result{.number = step.number, .rows = {}};
    for (const shards::Row& row : step.rows) {
      if (!row.sample) continue;
      result.rows.push_back({.slot = row.slot, .tokens = {{.id = token, .logprob = 0, .top = {}}}});
    }
    callbacks.on_result(result);
  }
  void settle() {  // every callback so far has returned
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return calls.empty() && !calling; });
  }

  void call_soon(std::function<void()> call) {
    std::lock_guard lock(mutex);
    calls.push_back(std::move(call));
    changed.notify_all();
  }
  void close() {
    std::lock_guard lock(mutex);
    closing = true;
    changed.notify_all();
  }
  void run_calls() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return closing || !calls.empty(); });
      if (calls.empty()) return;
      auto call = std::move(calls.front());
      calls.pop_front();
      calling = true;
      lock.unlock();
      call();
      lock.lock();
      calling = false;
      changed.notify_all();
    }
  }
};

class HandLink final : public shards::Link {
 public:
  explicit HandLink(std::shared_ptr<Hand> hand) : hand_(std::move(hand)) {}
  ~HandLink() override {
    hand_->close();
    thread_.join();
  }
  void start(Callbacks callbacks) override {
    hand_->callbacks = {
        .on_result =
            [hand = hand_.get(), call = callbacks.on_result](shards::StepResult result) {
              hand->call_soon([call, result = std::move(result)] { call(result); });
            },
        .on_lost =
            [hand = hand_.get(), call = callbacks.on_lost](std::string reason) {
              hand->call_soon([call, reason = std::move(reason)] { call(reason); });
            }};
    thread_ = std::thread([hand = hand_.get()] { hand->run_calls(); });
  }
  void send(const shards::Step& step) override {
    std::lock_guard lock(hand_->mutex);
    hand_->steps.push_back(step);
    hand_->changed.notify_all();
  }

 private:
  std::shared_ptr<Hand> hand_;
  std::thread thread_;
};

struct End {
  FinishReason reason;
  std::string message;
  std::vector<int32_t> output;
};

class Listener : public TokenListener {
 public:
  void seated() override {
    if (on_seated) on_seated();
  }
  void prompt(const std::vector<shards::SampledToken>& tokens) override {
    if (on_prompt) on_prompt(tokens);
  }
  Verdict accept(const shards::SampledToken& token) override {
    output_.push_back(token.id);
    if (on_accept) return on_accept(token.id);
    return Verdict::go_on;
  }
  void flush() override {
    if (on_flush) on_flush();
  }
  bool ready() const override { return is_ready; }
  void finished(FinishReason reason, const std::string& message) override {
    end_.set_value({reason, message, output_});  // throws when called twice
    if (on_finished) on_finished();
  }
  End end() { return end_.get_future().get(); }

  std::function<void()> on_seated;
  std::function<void(const std::vector<shards::SampledToken>&)> on_prompt;
  std::function<Verdict(int32_t)> on_accept;
  std::function<void()> on_flush, on_finished;
  std::atomic<bool> is_ready = true;

 private:
  std::vector<int32_t> output_;
  std::promise<End> end_;
};

GenerationRequest request(const std::shared_ptr<Listener>& listener, int prompt_tokens = 5,
                          int64_t max_tokens = 20) {
  GenerationRequest made;
  for (int i = 0; i < prompt_tokens; ++i) made.prompt.push_back(100 + i);
  made.sampling.seed = 42;
  made.max_tokens = max_tokens;
  made.listener = listener;
  return made;
}

// A driver whose link is the test's hand.
struct ByHand {
  explicit ByHand(const EngineOptions& options = {}) {
    driver = Driver::start(std::make_unique<HandLink>(hand), small_shard(), options,
                           [this](const std::string& reason) { lost.set_value(reason); });
  }
  Engine& engine() const { return driver->engine(); }
  // What was posted before, and what that posted, is done. No request may be alive.
  void settle() const {
    hand->settle();
    for (int i = 0; i < 2; ++i) {
      std::promise<void> drained;
      driver->drain([&] { drained.set_value(); });
      drained.get_future().wait();
    }
  }

  std::shared_ptr<Hand> hand = std::make_shared<Hand>();
  std::promise<std::string> lost;
  std::unique_ptr<Driver> driver;
};

}  // namespace

TEST_CASE("many requests from several threads get their tokens") {
  shards::ShardInfo info = small_shard();
  auto driver = Driver::start(std::make_unique<ThreadLink>(info), info, {}, {});
  std::vector<std::shared_ptr<Listener>> listeners(40);
  for (auto& listener : listeners) listener = std::make_shared<Listener>();
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      for (int i = t; i < 40; i += 4) {
        driver->engine().submit(request(listeners[i], 1 + i % 7, 1 + i % 20));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  FakeModel model(info);
  for (int i = 0; i < 40; ++i) {
    End end = listeners[i]->end();
    CHECK(end.reason == FinishReason::length);
    GenerationRequest asked = request(nullptr, 1 + i % 7);
    CHECK(end.output == model.alone(asked.prompt, asked.sampling, 1 + i % 20));
  }
  CHECK(driver->engine().context_max() == 128);
  CHECK(driver->engine().vocab_size() == 1000);
}

TEST_CASE("the next step is sent before the listener hears of the last one") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  std::promise<void> gate;
  listener->on_accept = [&, open = gate.get_future().share()](int32_t) {
    open.wait();
    return Verdict::go_on;
  };
  rig.engine().submit(request(listener, 5, 2));
  shards::Step first = rig.hand->next();
  shards::Step second = rig.hand->next();  // before the first was answered
  CHECK(second.rows.at(0).continues());
  rig.hand->answer(first, 7);
  rig.hand->answer(second, 8);
  gate.set_value();
  CHECK(listener->end().output == std::vector<int32_t>{7, 8});
}

TEST_CASE("a listener's stop ends the request and the dead row is not heard of") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  listener->on_accept = [](int32_t id) { return id == 9 ? Verdict::stop : Verdict::go_on; };
  rig.engine().submit(request(listener));
  shards::Step first = rig.hand->next();
  shards::Step second = rig.hand->next();
  rig.hand->answer(first, 9);
  rig.hand->answer(second, 10);
  End end = listener->end();
  CHECK(end.reason == FinishReason::stopped);
  CHECK(end.output == std::vector<int32_t>{9});
  std::promise<void> drained;
  rig.driver->drain([&] { drained.set_value(); });
  drained.get_future().wait();
}

TEST_CASE("listeners are flushed once all of a step's tokens are out") {
  ByHand rig;
  std::string calls;  // the listeners' calls come one at a time
  std::vector<std::shared_ptr<Listener>> listeners(2);
  for (auto& listener : listeners) {
    listener = std::make_shared<Listener>();
    listener->on_accept = [&](int32_t) {
      calls += 'a';
      return Verdict::go_on;
    };
    listener->on_flush = [&] { calls += 'f'; };
    rig.engine().submit(request(listener));
  }
  auto refused = std::make_shared<Listener>();
  rig.engine().submit(request(refused, 0));
  refused->end();  // so the two before are with the planner: in the third step at the latest
  for (int i = 0; i < 5; ++i) rig.hand->answer(rig.hand->next(), 7);
  rig.hand->settle();
  CHECK(calls.find("aaff") != calls.npos);
}

TEST_CASE("a stop at the last allowed token is a stop") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  listener->on_accept = [](int32_t) { return Verdict::stop; };
  rig.engine().submit(request(listener, 5, 1));
  rig.hand->answer(rig.hand->next(), 9);
  CHECK(listener->end().reason == FinishReason::stopped);
}

TEST_CASE("cancel ends a queued and a running request once") {
  ByHand rig;
  auto running = std::make_shared<Listener>();
  Engine::Submitted first = rig.engine().submit(request(running));
  rig.hand->next();
  auto second = std::make_shared<Listener>();
  Engine::Submitted next = rig.engine().submit(request(second));
  CHECK(first.id != next.id);
  rig.engine().cancel(next.id);
  rig.engine().cancel(first.id);
  rig.engine().cancel(first.id);
  rig.engine().cancel(12345);
  CHECK(second->end().reason == FinishReason::cancelled);
  CHECK(running->end().reason == FinishReason::cancelled);
}

TEST_CASE("a full engine says so, and has room again when a request has ended") {
  EngineOptions options;
  options.concurrent_requests_max = 2;
  ByHand rig(options);
  auto first = std::make_shared<Listener>();
  auto second = std::make_shared<Listener>();
  auto third = std::make_shared<Listener>();
  Engine::Submitted running = rig.engine().submit(request(first));
  CHECK(running.admission == Admission::accepted);
  CHECK(rig.engine().submit(request(second)).admission == Admission::accepted);
  CHECK(rig.engine().submit(request(third)).admission == Admission::queue_full);
  std::promise<Admission> again;
  first->on_finished = [&] { again.set_value(rig.engine().submit(request(third)).admission); };
  rig.engine().cancel(running.id);
  CHECK(again.get_future().get() == Admission::accepted);
}

TEST_CASE("draining lets the running requests end and no other in") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  rig.engine().submit(request(listener, 5, 1));
  std::promise<void> drained;
  std::future<void> done = drained.get_future();
  rig.driver->drain([&] { drained.set_value(); });
  auto late = std::make_shared<Listener>();
  CHECK(rig.engine().submit(request(late)).admission == Admission::draining);
  shards::Step step = rig.hand->next();
  CHECK(done.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  rig.hand->answer(step, 3);
  done.wait();
  CHECK(listener->end().reason == FinishReason::length);
}

TEST_CASE("draining an idle engine is done at once") {
  ByHand rig;
  std::promise<void> drained;
  rig.driver->drain([&] { drained.set_value(); });
  drained.get_future().wait();
}

TEST_CASE("a lost link fails every request and closes the door") {
  ByHand rig;
  auto first = std::make_shared<Listener>();
  auto second = std::make_shared<Listener>();
  rig.engine().submit(request(first));
  rig.engine().submit(request(second));
  rig.hand->next();
  rig.hand->callbacks.on_lost("rank 0 is gone");
  CHECK(rig.lost.get_future().get() == "rank 0 is gone");
  CHECK(first->end().reason == FinishReason::failed);
  CHECK(second->end().message == "rank 0 is gone");
  auto late = std::make_shared<Listener>();
  CHECK(rig.engine().submit(request(late)).admission == Admission::not_ready);
  rig.hand->callbacks.on_lost("twice");  // a second promise value would throw
  rig.settle();
  CHECK(rig.engine().stats().running == 0);
}

TEST_CASE("a result that was not asked for counts as a lost link") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  rig.engine().submit(request(listener));
  shards::Step step = rig.hand->next();
  step.number = 7;
  rig.hand->answer(step, 1);
  CHECK(rig.lost.get_future().get() == "the shard answered step 7, step 1 was due");
  CHECK(listener->end().reason == FinishReason::failed);
}

TEST_CASE("a listener that throws fails its own request alone") {
  shards::ShardInfo info = small_shard();
  auto driver = Driver::start(std::make_unique<ThreadLink>(info), info, {}, {});
  auto broken = std::make_shared<Listener>();
  broken->on_accept = [](int32_t) -> Verdict { throw std::runtime_error("not my day"); };
  auto sound = std::make_shared<Listener>();
  driver->engine().submit(request(broken));
  driver->engine().submit(request(sound));
  End end = broken->end();
  CHECK(end.reason == FinishReason::failed);
  CHECK(end.message == "internal fault in request 1");
  CHECK(sound->end().output.size() == 20);
}

TEST_CASE("a listener hears once that its request left the queue, also where it is preempted") {
  shards::ShardInfo info = small_shard();
  info.kv_groups[0].blocks = 33;  // little more than one sequence
  auto driver = Driver::start(std::make_unique<ThreadLink>(info), info, {}, {});
  std::vector<std::shared_ptr<Listener>> listeners(6);
  std::vector<int> seated(6);
  std::atomic<int> out_of_order = 0;  // Catch's CHECK is for one thread
  for (size_t i = 0; i < 6; ++i) {
    listeners[i] = std::make_shared<Listener>();
    listeners[i]->on_seated = [&, i] { ++seated[i]; };
    listeners[i]->on_accept = [&, i](int32_t) {
      if (seated[i] != 1) ++out_of_order;
      return Verdict::go_on;
    };
    driver->engine().submit(request(listeners[i], 20, 100));
  }
  for (auto& listener : listeners) CHECK(listener->end().output.size() == 100);
  CHECK(out_of_order == 0);
  CHECK(seated == std::vector<int>(6, 1));
  const EngineStats stats = driver->engine().stats();
  CHECK(stats.preempted > 0);
  CHECK(stats.prefill_steps > 6);
  CHECK(stats.decode_steps > 0);
  CHECK(stats.prefill_steps + stats.decode_steps >= stats.steps);
}

TEST_CASE("a prompt's logprobs come chunk by chunk before the first token") {
  shards::ShardInfo info = small_shard();
  info.top_logprobs_max = 20;
  auto driver =
      Driver::start(std::make_unique<ThreadLink>(info), info, {.prefill_tokens_max = 8}, {});
  auto listener = std::make_shared<Listener>();
  std::vector<shards::SampledToken> prompt;
  int calls = 0;
  size_t known_at_first_token = 0;
  listener->on_prompt = [&](const std::vector<shards::SampledToken>& tokens) {
    ++calls;
    prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  };
  listener->on_accept = [&](int32_t) {
    known_at_first_token = prompt.size();
    return Verdict::stop;
  };
  GenerationRequest asked = request(listener, 50);
  asked.prompt_logprobs = true;
  asked.sampling.top_logprobs = 2;
  driver->engine().submit(asked);
  CHECK(listener->end().reason == FinishReason::stopped);
  CHECK(calls == 7);
  CHECK(known_at_first_token == 49);
  const auto rates = FakeModel(info).rate_alone(asked.prompt, asked.sampling);
  REQUIRE(prompt.size() == 49);
  for (size_t i = 0; i < 49; ++i) {
    CHECK(prompt[i].id == asked.prompt[i + 1]);
    CHECK(prompt[i].logprob == rates[i]);
    CHECK(prompt[i].top.size() == 2);
  }
}

TEST_CASE("a listener that throws when seated or at its prompt fails its request alone") {
  shards::ShardInfo info = small_shard();
  auto driver = Driver::start(std::make_unique<ThreadLink>(info), info, {}, {});
  auto unseated = std::make_shared<Listener>();
  unseated->on_seated = [] { throw std::runtime_error("no"); };
  driver->engine().submit(request(unseated));
  CHECK(unseated->end().reason == FinishReason::failed);
  auto broken = std::make_shared<Listener>();
  broken->on_prompt = [](const auto&) { throw std::runtime_error("too much"); };
  auto sound = std::make_shared<Listener>();
  GenerationRequest asked = request(broken);
  asked.prompt_logprobs = true;
  driver->engine().submit(asked);
  driver->engine().submit(request(sound));
  CHECK(broken->end().reason == FinishReason::failed);
  CHECK(sound->end().output.size() == 20);
}

TEST_CASE("a request out of range fails itself alone") {
  ByHand rig;
  auto empty = std::make_shared<Listener>();
  auto long_one = std::make_shared<Listener>();
  rig.engine().submit(request(empty, 0));
  rig.engine().submit(request(long_one, 128));
  CHECK(empty->end().reason == FinishReason::failed);
  CHECK(long_one->end().reason == FinishReason::failed);
}

TEST_CASE("a listener that is not ready pauses its sequence until it wakes the engine") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  listener->on_accept = [&](int32_t) {
    listener->is_ready = false;
    return Verdict::go_on;
  };
  rig.engine().submit(request(listener, 5, 5));
  shards::Step first = rig.hand->next();
  shards::Step second = rig.hand->next();
  rig.hand->answer(first, 1);
  rig.hand->answer(second, 2);  // was on its way
  auto other = std::make_shared<Listener>();
  rig.engine().submit(request(other, 5, 1));
  shards::Step third = rig.hand->next();
  REQUIRE(third.rows.size() == 1);
  CHECK(third.rows[0].start.has_value());  // the other one's
  rig.hand->answer(third, 3);
  CHECK(other->end().output == std::vector<int32_t>{3});
  for (int32_t token : {2, 4}) {  // it pauses again after each
    listener->is_ready = true;
    rig.engine().wake();
    shards::Step step = rig.hand->next();
    CHECK(step.rows.at(0).tokens == std::vector<int32_t>{token});
    if (token == 2) {
      // One ahead: the next is under way before the listener can say that it is behind.
      shards::Step ahead = rig.hand->next();
      CHECK(ahead.rows.at(0).continues());
      rig.hand->answer(step, 3);
      rig.hand->answer(ahead, 4);
      auto marker = std::make_shared<Listener>();
      rig.engine().submit(request(marker, 5, 1));
      rig.hand->answer(rig.hand->next(), 5);
      marker->end();
    } else {
      rig.hand->answer(step, 6);
    }
  }
  CHECK(listener->end().output == std::vector<int32_t>{1, 2, 3, 4, 6});
}

TEST_CASE("a paused request can be cancelled, and a later wake finds nobody") {
  ByHand rig;
  auto listener = std::make_shared<Listener>();
  listener->is_ready = false;
  Engine::Submitted paused = rig.engine().submit(request(listener));
  rig.hand->answer(rig.hand->next(), 1);
  rig.hand->answer(rig.hand->next(), 2);
  rig.engine().cancel(paused.id);
  CHECK(listener->end().reason == FinishReason::cancelled);
  rig.engine().wake();
  rig.settle();
}

TEST_CASE("a seat that comes free is filled before the listener hears of the last token") {
  EngineOptions options;
  options.batch_size_max = 1;
  ByHand rig(options);
  auto first = std::make_shared<Listener>();
  std::promise<size_t> sent;
  first->on_accept = [&](int32_t) {
    std::lock_guard lock(rig.hand->mutex);
    sent.set_value(rig.hand->steps.size());
    return Verdict::go_on;
  };
  rig.engine().submit(request(first, 5, 1));
  auto second = std::make_shared<Listener>();
  rig.engine().submit(request(second, 5, 1));
  shards::Step step = rig.hand->next();
  auto third = std::make_shared<Listener>();
  // The third is past the door, so the second is in the planner's queue.
  rig.engine().cancel(rig.engine().submit(request(third, 5, 1)).id);
  third->end();
  rig.hand->answer(step, 1);
  CHECK(sent.get_future().get() == 1);
  rig.hand->answer(rig.hand->next(), 2);
  CHECK(second->end().output == std::vector<int32_t>{2});
}

TEST_CASE("ending the driver cancels what runs") {
  auto listener = std::make_shared<Listener>();
  {
    ByHand rig;
    rig.engine().submit(request(listener));
    rig.hand->next();
  }
  CHECK(listener->end().reason == FinishReason::cancelled);
}

TEST_CASE("the statistics can be read from any thread") {
  shards::ShardInfo info = small_shard();
  auto driver = Driver::start(std::make_unique<ThreadLink>(info), info, {}, {});
  CHECK(driver->engine().stats().kv_blocks == 128);
  auto first = std::make_shared<Listener>();
  driver->engine().submit(request(first, 5, 4));
  first->end();
  auto second = std::make_shared<Listener>();
  driver->engine().submit(request(second, 5, 1));
  second->end();
  EngineStats stats = driver->engine().stats();  // as of the second's start at least
  CHECK(stats.queued == 0);
  CHECK(stats.steps >= 4);
  CHECK(stats.prefill_tokens >= 5);
  CHECK(stats.decode_tokens == 3);
}

}  // namespace chorus::engine
