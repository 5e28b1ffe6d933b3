// From the engine's thread to the connection's: tokens go in as the engine samples them, pieces of
// text come out on the executor of the connection that waits for them.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/api/task.h"
#include "router/engine/engine.h"
#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"

namespace chorus::api {

using Clock = std::chrono::steady_clock;

enum class Outcome : uint8_t { stop, length, cancelled, failed };

enum class StopCause : uint8_t { end_token, stop_string };  // a stop id counts as an end token

struct End {
  Outcome outcome = Outcome::stop;
  StopCause cause = StopCause::end_token;  // with `stop`
  std::string message;                     // with `failed`
  // All tokens that were generated: also the one that ended the turn, and those whose text fell to
  // a stop string. They cost what the others cost, and the count is the same streamed or not.
  int64_t completion_tokens = 0;
  double logprob_sum = 0;         // of all of them
  Clock::time_point seated;       // it left the queue
  Clock::time_point first_token;  // meaningless without tokens
  Clock::time_point last_token;

  double mean_logprob() const {
    return completion_tokens > 0 ? logprob_sum / static_cast<double>(completion_tokens) : 0;
  }
};

struct Piece {
  int choice = 0;
  std::string text;
  std::vector<shards::SampledToken> tokens;  // whose text it begins to show, where they are kept
  std::vector<shards::SampledToken> prompt;  // of a choice's first piece, where asked for
  int64_t count = 0;                         // pieces of the engine's side in it, for written()
  std::optional<End> end;                    // the last one
};

class Postbox;

// Pieces that wait for their connection. Touched on its executor only, but for post() and flush().
class Inbox {
 public:
  explicit Inbox(boost::asio::any_io_executor executor);
  // Any thread. The piece sets out at once, or with the next that does on the same executor or the
  // next flush(). Lets go of `inbox` on its own executor.
  enum class Departure : uint8_t { at_once, with_others };
  static void post(std::shared_ptr<Inbox> inbox, Piece piece, Departure departure);
  void flush() const;
  void receive(Piece piece);

  // Returns when a piece is there, interrupt() was called, or the time is up.
  Task<> wait(Clock::duration at_most);
  std::vector<Piece> take();
  void interrupt();

 private:
  boost::asio::any_io_executor executor_;
  Postbox& postbox_;  // of the executor's context
  boost::asio::steady_timer timer_;
  std::vector<Piece> pieces_;
  bool interrupted_ = false;
};

// One request's tokens. The engine's calls come on its thread, written() from the connection.
class Generation final : public engine::TokenListener {
 public:
  struct Options {
    const text::Tokenizer* tokenizer = nullptr;
    const std::vector<bool>* end_ids = nullptr;  // by token id; nullptr: none ends the text
    std::vector<int32_t> stop_ids = {};          // more ids that do
    std::vector<std::string> stop = {};
    bool include_stop = false;
    bool skip_special_tokens = true;
    std::vector<int32_t> prompt_tail = {};  // as text::DetokenizerOptions has it
    bool keep_tokens = false;               // pieces hold tokens, not text alone
    bool keep_stop_tokens = false;          // also those that end the text
    int64_t max_tokens = 0;                 // 0: unknown; else the last token goes with the end
    int choice = 0;
    bool stream = false;  // otherwise one piece, at the end
    int64_t unwritten_max = 128;
  };
  Generation(Options options, std::shared_ptr<Inbox> inbox);

  void seated() override;
  void prompt(const std::vector<shards::SampledToken>& tokens) override;
  engine::Verdict accept(const shards::SampledToken& token) override;
  void flush() override;
  bool ready() const override;
  void finished(engine::FinishReason reason, const std::string& message) override;

  // The client has taken `count` pieces. True: the engine had been told to pause and must be woken.
  bool written(int64_t count);

 private:
  bool is_end(int32_t id) const;
  void show(std::string text);
  void release(bool all);
  void send(std::optional<End> end);
  void finish(Outcome outcome, std::string message);
  engine::Verdict stop(StopCause cause);

  struct Held {
    shards::SampledToken token;
    int64_t begin;  // where its text begins in the sequence's text
  };

  Options options_;
  std::shared_ptr<Inbox> inbox_;  // given away with the last piece
  text::Detokenizer detokenizer_;
  Piece piece_;            // what was not sent yet
  std::deque<Held> held_;  // tokens whose text was not shown yet
  int64_t shown_bytes_ = 0;
  End end_;
  bool ended_ = false;
  std::atomic<int64_t> unwritten_{0};
};

}  // namespace chorus::api
