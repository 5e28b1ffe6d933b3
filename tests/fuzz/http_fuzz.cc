// Any bytes on a connection, in any pieces, with a client that leaves anywhere: the session ends
// with its client, never answers more than it was asked, and how the bytes were cut makes no
// difference. The first five bytes say how to feed the rest.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "process/log.h"
#include "tests/router/http/feeding.h"

namespace {

// Whether "100 Continue" is sent depends on how much of the body came with the head (RFC 9110,
// 10.1.1), so on the cut.
size_t bytes_without_interim(std::string received) {
  constexpr std::string_view kInterim = "HTTP/1.1 100 Continue\r\n\r\n";
  for (size_t at = received.find(kInterim); at != received.npos; at = received.find(kInterim, at)) {
    received.erase(at, kInterim.size());
  }
  return received.size();
}

void require(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

// A request has "HTTP/1." in its first line, so there are at most so many.
int requests_at_most(std::string_view bytes) {
  int count = 0;
  for (size_t at = bytes.find("HTTP/1."); at != bytes.npos; at = bytes.find("HTTP/1.", at + 1)) {
    ++count;
  }
  return count;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  chorus::process::start_log({.process = "fuzz", .level = chorus::process::LogLevel::error});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 5 || size > 50'000) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 5, size - 5);
  chorus::http_test::FeedPlan plan{.seed = data[0], .piece_bytes_max = data[1]};
  const size_t where = data[3] * size_t{256} + data[4];
  if (data[2] % 4 == 1) plan.leave_sent = where % (bytes.size() + 1);
  if (data[2] % 4 == 2) plan.leave_received = where + 1;
  const bool leaves = plan.leave_sent || plan.leave_received;

  const auto fed = chorus::http_test::feed(bytes, plan);
  require(fed.ended, "the session goes on without its client");
  require(fed.calls <= requests_at_most(bytes), "more calls than requests");
  // A HEAD's answer has a length and no body, which only its asker can tell.
  const bool has_head = bytes.find("HEAD ") != bytes.npos;
  const bool may_be_cut =
      leaves || bytes.find("/t") != bytes.npos || bytes.find("/w") != bytes.npos;
  if (!has_head) {
    const auto fault = chorus::http_test::fault_in_answers(fed.received, fed.calls, may_be_cut);
    require(fault.empty(), fault);
  }
  if (!leaves) {
    const auto whole = chorus::http_test::feed(bytes, {});
    require(whole.calls == fed.calls, "the cut changes the number of calls");
    require(bytes_without_interim(whole.received) == bytes_without_interim(fed.received),
            "the cut changes the answers");
  }
  return 0;
}
