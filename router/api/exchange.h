// The seam between http and api: http reads a request, checks its framing and its size, and hands
// it to an entry point as an Exchange; what the entry point answers through it, http writes. So
// api knows no socket, and http knows no route. Everything here happens on the connection's
// executor; nothing is shared between threads.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/task.h"

namespace chorus::api {

struct HeaderField {
  std::string name;  // lower case in requests
  std::string value;
};

struct Request {
  std::string method;  // "POST"
  std::string path;    // as sent, without the query; "*" for OPTIONS *
  std::string query;
  std::vector<HeaderField> fields;
  std::string body;
  std::string id;           // the client's x-request-id, or one made for it
  std::string caller = {};  // the name of the API key it brought; set by a gate
  bool spare = false;       // on one of the last connections there are: kept for probes

  const std::string* find(std::string_view name) const {  // the first of that name, nullptr: none
    for (const HeaderField& field : fields) {
      if (field.name == name) return &field.value;
    }
    return nullptr;
  }
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";  // empty: no body
  std::string body;
  std::vector<HeaderField> headers = {};
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const Request& request() const = 0;

  // Exactly one of the two, once. After start_stream (200, text/event-stream) comes any number of
  // writes; the stream ends when the entry point returns. A write returns once the bytes are with
  // the kernel; false: the client is gone or too slow, and further writes do nothing.
  virtual Task<> respond(Response response) = 0;
  virtual Task<bool> start_stream(std::vector<HeaderField> headers) = 0;
  virtual Task<bool> write(std::string_view bytes) = 0;

  // While the entry point waits for something else than the client: `notify` is called once, when
  // the client closes or resets the connection (or the server must end). An empty function ends
  // the watch. Not called from inside.
  virtual void watch(std::function<void()> notify) = 0;
  virtual bool gone() const = 0;

  // Appended to the request's line in the log.
  virtual void set_log_detail(std::string detail) = 0;
};

using EntryPoint = std::function<Task<>(Exchange&)>;

// Judges a request by its head, before its body is read: an answer ends it, nothing lets it pass to
// the entry point. Says in `caller` whose request it is.
using Gate = std::function<std::optional<Response>(Request&)>;

}  // namespace chorus::api
