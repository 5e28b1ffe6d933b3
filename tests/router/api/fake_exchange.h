// An exchange without a socket: holds what was answered.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "router/api/exchange.h"

namespace chorus::api_test {

class FakeExchange final : public api::Exchange {
 public:
  explicit FakeExchange(api::Request request) : request_(std::move(request)) {}

  const api::Request& request() const override { return request_; }
  api::Task<> respond(api::Response given) override {
    response = std::move(given);
    ++answers;
    co_return;
  }
  api::Task<bool> start_stream(std::vector<api::HeaderField> headers) override {
    response.headers = std::move(headers);
    ++answers;
    streamed = true;
    co_return true;
  }
  api::Task<bool> write(std::string_view bytes) override {
    stream += bytes;
    ++writes;
    co_return true;
  }
  void watch(std::function<void()>) override {}
  bool gone() const override { return false; }
  void set_log_detail(std::string detail) override { log_detail = std::move(detail); }

  nlohmann::json json() const { return nlohmann::json::parse(response.body); }
  std::string header(std::string_view name) const {
    for (const api::HeaderField& field : response.headers) {
      if (field.name == name) return field.value;
    }
    return {};
  }
  // The stream's events, without "data: "; "[DONE]" as it stands.
  std::vector<std::string> events() const {
    std::vector<std::string> out;
    for (size_t at = 0; at < stream.size();) {
      const size_t end = stream.find("\n\n", at);
      const std::string event = stream.substr(at, end - at);
      if (event.starts_with("data: ")) out.push_back(event.substr(6));
      at = end + 2;
    }
    return out;
  }

  api::Response response;
  std::string stream;
  std::string log_detail;
  int answers = 0;
  int writes = 0;
  bool streamed = false;

 private:
  api::Request request_;
};

// Runs an entry point to its end. `context` outlives the engine.
inline void answer(boost::asio::io_context& context, const api::EntryPoint& entry,
                   FakeExchange& exchange) {
  std::exception_ptr fault;
  context.restart();
  boost::asio::co_spawn(context, entry(exchange), [&](std::exception_ptr e) { fault = e; });
  context.run();
  if (fault) std::rethrow_exception(fault);
}

}  // namespace chorus::api_test
