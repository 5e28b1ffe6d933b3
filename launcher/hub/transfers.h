// HTTP, several requests at once on the calling thread (libcurl's multi interface).
//
// What may pass by itself is tried again here: connections that fail or are cut, silence, 408, 429
// and 5xx, with growing pauses or the server's Retry-After. Redirects are followed, never from
// https to http; the token goes to the host that was asked and to no other.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/hub/hub_settings.h"
#include "launcher/hub/interruption.h"

namespace chorus::launcher {

struct Head {
  long status = 0;
  std::map<std::string, std::string> fields;  // names in lower case
  std::string field(const std::string& name) const;
};

struct ByteRange {
  int64_t begin = 0, end = 0;  // end exclusive
};

struct Request {
  std::string url;
  bool head_only = false;  // HEAD; redirects are not followed
  std::optional<ByteRange> range = {};
  std::chrono::seconds silence{10};  // how long without a byte counts as cut
};

struct Outcome {
  Head head;              // of the last answer; status 0: there was none
  std::string body;       // of an answer that no on_body took, or that is an error
  std::string url;        // that answered, behind redirects
  std::string cause;      // why it failed, for people; empty: there was an answer, of any status
  bool given_up = false;  // `cause`, or a status like 503, stayed after every attempt
  bool declined = false;  // on_head did not want it
};

struct Transfer {
  std::string subject;               // for the log: "model.safetensors"
  std::function<Request()> request;  // made anew for each attempt
  // Before a successful answer's body; false ends the transfer. May throw.
  std::function<bool(const Head&)> on_head = {};
  // A successful answer's body. May throw. Absent: collected into Outcome::body.
  std::function<void(std::string_view)> on_body = {};
  // Whether a successful answer brought everything; absent: yes. Where not, it was cut.
  std::function<bool()> whole = {};
  std::function<void(const Outcome&)> done = {};  // once. May throw, and start other transfers
  int attempts = 6;                               // in a row that got no further
};

class Transfers {
 public:
  Transfers(const HubSettings& settings, const Interruption& interruption);
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  void add(Transfer transfer);
  size_t active() const { return active_.size(); }  // pauses before an attempt count too

  // Moves bytes, calls the functions of transfers, and returns after at most `wait`. What they
  // throw comes out here; Interrupted too.
  void step(std::chrono::milliseconds wait);
  void run();  // until none is active

  // Called before a line is logged, so that a progress bar can make room.
  std::function<void()> before_log = [] {};

 private:
  struct Active;
  void start(Active& active);
  void stop(Active& active);
  void finish(Active& active, int curl_code);
  std::chrono::milliseconds until_next_start(std::chrono::milliseconds most) const;

  const HubSettings& settings_;
  const Interruption& interruption_;
  void* multi_;
  std::list<std::unique_ptr<Active>> active_;
};

}  // namespace chorus::launcher
