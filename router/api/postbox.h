// Pieces on their way from the engine to the connections of one thread. They are gathered while the
// engine gives out a step's tokens and go over together, so that a step wakes a thread once and not
// once for each of its streams.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <memory>
#include <mutex>
#include <vector>

#include "router/api/generation.h"

namespace chorus::api {

// One for each execution context, made with its first inbox.
class Postbox final : public boost::asio::execution_context::service {
 public:
  using key_type = Postbox;
  static boost::asio::execution_context::id id;

  explicit Postbox(boost::asio::execution_context& context) : service(context) {}
  static Postbox& of(const boost::asio::any_io_executor& executor);

  // Both from any thread.
  void put(std::shared_ptr<Inbox> inbox, Piece piece);
  void flush(const boost::asio::any_io_executor& executor);

 private:
  struct Letter {
    std::shared_ptr<Inbox> inbox;
    Piece piece;
  };
  void deliver();
  void shutdown() override;

  std::mutex mutex_;  // guards the next two
  std::vector<Letter> letters_;
  bool on_its_way_ = false;          // deliver() has been posted
  std::vector<Letter> opened_ = {};  // of the context's thread; keeps its memory
};

}  // namespace chorus::api
