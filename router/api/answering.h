// One request's generations over one exchange: handed to the engine, waited for, written as they
// come or all at once, and cancelled whatever way the request ends. How the answer is worded is the
// route's business (Wording).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "router/api/generation.h"
#include "router/api/service.h"

namespace chorus::api {

// One generation. A request may ask for several: choices, prompts, candidates.
struct Ask {
  std::vector<int32_t> prompt;
  shards::Sampling sampling;
  int64_t max_tokens = 1;
  bool prompt_logprobs = false;
  Generation::Options text;
};

struct Timing {
  Clock::time_point arrived;
  Clock::time_point admitted;
  Clock::time_point seated;  // the last of the choices
};

class Wording {
 public:
  virtual ~Wording() = default;

  // Of streams: bytes of server-sent events are appended.
  virtual void append_start(std::string& out) { (void)out; }
  virtual void append_piece(std::string& out, const Piece& piece) = 0;  // has `end` where it ends
  virtual void append_close(std::string& out) = 0;                      // after all choices' ends
  virtual std::vector<HeaderField> stream_headers() const { return {}; }

  // Of whole answers: one piece a choice, in the order of the asks.
  virtual Response whole(std::span<const Piece> choices, const Timing& timing) = 0;
};

// An error in the shape that the route's clients read.
using ErrorForm = Response (*)(const Error&);

class Answering {
 public:
  Answering(Service& service, Exchange& exchange, ErrorForm form = error_response);
  ~Answering();
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

  // The request's body, or why it is not read: its media type, the server's state, its syntax.
  tl::expected<Json, Error> read_body() const;
  size_t body_bytes() const { return exchange_.request().body.size(); }
  void set_error_form(ErrorForm form) { form_ = form; }

  Task<> refuse(Error error);
  // All or none. `label` names the answer in the log.
  std::optional<Error> submit(std::vector<Ask> asks, std::string label,
                              boost::asio::any_io_executor executor);
  // After submit. Answers, or tells why not.
  Task<> collect(Wording& wording);
  Task<> stream(Wording& wording);

 private:
  struct Choice {
    std::shared_ptr<Generation> generation;
    engine::Engine::RequestId id = 0;
    int64_t prompt_tokens = 0;
    int64_t max_tokens = 0;
    bool ended = false;
  };

  bool all_ended() const { return ended_count_ == choices_.size(); }
  void note_end(const Piece& piece);
  void note_gone();
  void note_answered();
  Error failure(const End& end) const;
  void append_pieces(Wording& wording, std::span<const Piece> pieces, std::string& buffer);
  bool take_written(std::span<const Piece> pieces);

  Service& service_;
  Exchange& exchange_;
  ErrorForm form_;
  Timing timing_{.arrived = Clock::now(), .admitted = {}, .seated = {}};
  std::string label_;
  std::shared_ptr<Inbox> inbox_;
  std::vector<Choice> choices_;
  size_t ended_count_ = 0;
  int64_t completion_tokens_ = 0;
  std::string reason_;  // how the last choice ended, for the log
  double first_ms_ = 0;
};

// What most routes do: read the body, then answer it or say what is wrong with it.
using BodyAnswer = Task<> (*)(Service&, Answering&, Json);
Task<> answer_body(Service& service, Exchange& exchange, ErrorForm form, BodyAnswer answer);

// The head of an answer: "chatcmpl-..." and the like.
std::string make_answer_id(std::string_view prefix);
uint64_t random_number();
int64_t seconds_now();  // since 1970

}  // namespace chorus::api
