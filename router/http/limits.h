// How much a client may send, and how slowly. As HAProxy and Apache's mod_reqtimeout do it: the
// head has one time for all its bytes, which no trickle prolongs; a body must keep a rate.
#pragma once

#include <chrono>
#include <cstddef>

#include "router/http/head_check.h"

namespace chorus::http {

struct Limits {
  HeadLimits head = {};
  size_t body_bytes = 2'000'000;                 // --payload-limit
  std::chrono::milliseconds head_time{10'000};   // from a head's first byte to its last
  std::chrono::milliseconds idle_time{75'000};   // between requests
  std::chrono::milliseconds body_grace{10'000};  // then the rate below must be kept
  size_t body_bytes_per_second = 1024;
  std::chrono::milliseconds write_time{60'000};  // for one write to reach the kernel
  std::chrono::milliseconds linger_time{2'000};  // for the client to read the last answer
  size_t pipelined_bytes = 64 * 1024;            // read ahead while a request is answered
};

}  // namespace chorus::http
