// A load generator that costs little: one thread, epoll, no parsing beyond what tells where an
// answer ends. Every connection sends the same request again and again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace chorus::bench {

struct Load {
  int connections = 1;
  int requests = 1;        // of each connection, one after the other
  bool keep_alive = true;  // false: each request on a connection of its own
  std::string body;        // of POST /v1/chat/completions
  bool stream = false;
};

struct LoadResult {
  double seconds = 0;
  int64_t answers = 0;
  int64_t events = 0;              // chunks with text, of streams
  std::vector<double> first_ms;    // from a stream's request to its first bytes
  std::vector<double> between_ms;  // from one chunk to the next of its stream; 0 within a read
};

// Runs the load against 127.0.0.1:port. Throws std::runtime_error for an answer other than 200, or
// a stream that breaks off.
LoadResult run_load(int port, const Load& load);

// Connects and sends nothing.
std::vector<int> connect_idle(int port, int count);

// A whole answer to GET `path`, head included.
std::string get(int port, const std::string& path);

}  // namespace chorus::bench
