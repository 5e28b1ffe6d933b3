// A tokenizer of a few words and an engine that says what the test wants, on a thread of its own
// as the real one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "router/api/service.h"
#include "router/engine/engine.h"
#include "router/text/chat_format.h"
#include "router/text/tokenizer.h"

namespace chorus::api_test {

// Ids from 100 on are single bytes; below stand words and control tokens.
class WordTokenizer final : public text::Tokenizer {
 public:
  static constexpr int32_t kEnd = 0, kPad = 1, kHello = 2, kWorld = 3, kComma = 4, kQuote = 5,
                           kSmileHead = 6, kSmileTail = 7, kByte = 100;

  std::vector<int32_t> encode(const text::Prompt& prompt, bool) const override {
    std::vector<int32_t> ids;
    for (char c : prompt.text) ids.push_back(kByte + static_cast<unsigned char>(c));
    return ids;
  }
  text::Encoding encode_with_offsets(const text::Prompt& prompt, bool add) const override {
    text::Encoding encoding{encode(prompt, add), {}};
    for (int64_t i = 0; i < static_cast<int64_t>(encoding.ids.size()); ++i) {
      encoding.offsets.push_back({i, i + 1});
    }
    return encoding;
  }
  std::string_view bytes(int32_t id) const override {
    if (id >= kByte) return std::string_view(singles_).substr(static_cast<size_t>(id - kByte), 1);
    return is_control(id) ? std::string_view() : text(id);
  }
  std::string_view text(int32_t id) const override {
    constexpr std::string_view kTexts[] = {"<|end|>", "<|pad|>", "Hello",    " world",
                                           ",",       "\"\n\\",  "\xF0\x9F", "\x98\x80"};
    if (id < static_cast<int32_t>(std::size(kTexts))) return kTexts[id];
    return id >= kByte ? bytes(id) : std::string_view("?");
  }
  bool is_control(int32_t id) const override { return id == kEnd || id == kPad; }
  int32_t size() const override { return kByte + 256; }
  const std::vector<int32_t>& end_ids() const override { return ends_; }
  std::string_view bos_text() const override { return "<s>"; }
  std::string_view eos_text() const override { return "<|end|>"; }
  bool strips_first_space() const override { return false; }

 private:
  static std::string all_bytes() {
    std::string out;
    for (int i = 0; i < 256; ++i) out += static_cast<char>(i);
    return out;
  }
  std::string singles_ = all_bytes();
  std::vector<int32_t> ends_ = {kEnd};
};

class FakeEngine final : public engine::Engine {
 public:
  struct Script {
    std::vector<int32_t> tokens;  // then, in order: fail, go on for ever, or end by length
    std::string failure = {};
    bool endless = false;  // repeats kHello
    engine::Admission admission = engine::Admission::accepted;
    int64_t context = 512;
    bool held = false;  // no token before release()
  };

  explicit FakeEngine(Script script) : script_(std::move(script)), released_(!script_.held) {
    thread_ = std::thread([this] { loop(); });
  }
  ~FakeEngine() override {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Submitted submit(engine::GenerationRequest request) override {
    if (script_.admission != engine::Admission::accepted) return {script_.admission, 0};
    std::lock_guard lock(mutex_);
    last_ = {.prompt = request.prompt,
             .sampling = request.sampling,
             .max_tokens = request.max_tokens,
             .prompt_logprobs = request.prompt_logprobs,
             .listener = nullptr};
    request.listener->seated();
    if (request.prompt_logprobs) {
      std::vector<shards::SampledToken> tokens;
      for (size_t i = 1; i < request.prompt.size(); ++i) {
        tokens.push_back({.id = request.prompt[i], .logprob = -1.0f, .top = {}});
      }
      request.listener->prompt(tokens);
    }
    running_.emplace(++last_id_, Sequence{std::move(request.listener), request.max_tokens, 0});
    changed_.notify_all();
    return {engine::Admission::accepted, last_id_};
  }
  void cancel(RequestId id) override {
    std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
    changed_.notify_all();
  }
  void wake() override {
    std::lock_guard lock(mutex_);
    ++wakes_;
    changed_.notify_all();
  }
  engine::EngineStats stats() const override {
    engine::EngineStats stats;
    stats.kv_blocks = 64;
    stats.kv_blocks_used = 3;
    stats.steps = 7;
    stats.prefill_steps = 2;
    return stats;
  }
  int64_t context_max() const override { return script_.context; }
  int64_t vocab_size() const override { return 356; }
  int top_logprobs_max() const override { return 5; }

  void release() {
    std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  // The last request that was let in, without its listener.
  engine::GenerationRequest last() {
    std::lock_guard lock(mutex_);
    return last_;
  }
  int64_t submitted() {
    std::lock_guard lock(mutex_);
    return static_cast<int64_t>(last_id_);
  }
  // Waits until nothing runs; true if the last to end was cancelled.
  bool wait_idle() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return running_.empty() && last_id_ > 0; });
    return last_was_cancelled_;
  }
  // Waits until every running sequence has paused, and says how many tokens were made.
  int64_t wait_paused() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return paused_; });
    return made_;
  }
  int64_t made() {
    std::lock_guard lock(mutex_);
    return made_;
  }
  int wakes() {
    std::lock_guard lock(mutex_);
    return wakes_;
  }

 private:
  struct Sequence {
    std::shared_ptr<engine::TokenListener> listener;
    int64_t max_tokens;
    size_t next;
  };

  void loop() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      bool moved = false;
      for (RequestId id : std::exchange(cancelled_, {})) {
        auto found = running_.find(id);
        if (found == running_.end()) continue;
        end(found, engine::FinishReason::cancelled, "");
        last_was_cancelled_ = true;
        moved = true;
      }
      for (auto at = running_.begin(); released_ && at != running_.end();) {
        auto sequence = at++;
        if (!sequence->second.listener->ready()) continue;
        moved = true;
        step(sequence);
      }
      paused_ = !moved && released_ && !running_.empty();
      changed_.notify_all();
      if (!moved) changed_.wait(lock);
      // As the real engine: others get in between two steps.
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
    while (!running_.empty()) end(running_.begin(), engine::FinishReason::cancelled, "");
  }

  using Running = std::map<RequestId, Sequence>;

  void step(Running::iterator at) {
    Sequence& sequence = at->second;
    if (sequence.next >= script_.tokens.size() && !script_.endless) {
      if (!script_.failure.empty()) return end(at, engine::FinishReason::failed, script_.failure);
      return end(at, engine::FinishReason::length, "");
    }
    shards::SampledToken token;
    token.id = sequence.next < script_.tokens.size() ? script_.tokens[sequence.next]
                                                     : WordTokenizer::kHello;
    token.logprob = -0.5f;
    token.top = {{.id = token.id, .logprob = -0.5f},
                 {.id = WordTokenizer::kComma, .logprob = -2.0f}};
    ++sequence.next;
    ++made_;
    if (sequence.listener->accept(token) == engine::Verdict::stop) {
      return end(at, engine::FinishReason::stopped, "");
    }
    sequence.listener->flush();  // each step here has one token
    if (static_cast<int64_t>(sequence.next) >= sequence.max_tokens) {
      end(at, engine::FinishReason::length, "");
    }
  }

  void end(Running::iterator at, engine::FinishReason reason, const std::string& message) {
    last_was_cancelled_ = false;
    at->second.listener->finished(reason, message);
    running_.erase(at);
  }

  const Script script_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Running running_;
  std::vector<RequestId> cancelled_;
  engine::GenerationRequest last_;
  RequestId last_id_ = 0;
  int64_t made_ = 0;
  int wakes_ = 0;
  bool released_;
  bool paused_ = false;
  bool last_was_cancelled_ = false;
  bool ending_ = false;
  std::thread thread_;
};

constexpr std::string_view kTemplate =
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";

inline api::Serving serving_with(engine::Engine& engine, std::string_view source = kTemplate) {
  modelfile::ChatTemplates templates;
  templates.sources = {{"default", std::string(source), "test"}};
  auto format = text::ChatFormat::make(templates, "<s>", "<|end|>");
  if (!format) throw std::runtime_error(format.error().message);
  api::Serving serving;
  serving.tokenizer = std::make_unique<WordTokenizer>();
  serving.chat_format.emplace(std::move(*format));
  serving.engine = &engine;
  return serving;
}

}  // namespace chorus::api_test
