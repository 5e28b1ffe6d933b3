#include "router/api/postbox.h"

#include <boost/asio/execution/context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <utility>

namespace chorus::api {

namespace asio = boost::asio;

asio::execution_context::id Postbox::id;

Postbox& Postbox::of(const asio::any_io_executor& executor) {
  return asio::use_service<Postbox>(asio::query(executor, asio::execution::context));
}

void Postbox::put(std::shared_ptr<Inbox> inbox, Piece piece) {
  std::lock_guard lock(mutex_);
  letters_.push_back({std::move(inbox), std::move(piece)});
}

void Postbox::flush(const asio::any_io_executor& executor) {
  {
    std::lock_guard lock(mutex_);
    if (letters_.empty() || std::exchange(on_its_way_, true)) return;
  }
  asio::post(executor, [this] { deliver(); });
}

void Postbox::deliver() {
  {
    std::lock_guard lock(mutex_);
    on_its_way_ = false;
    std::swap(opened_, letters_);
  }
  for (Letter& letter : opened_) letter.inbox->receive(std::move(letter.piece));
  opened_.clear();
}

void Postbox::shutdown() {
  letters_.clear();
}

}  // namespace chorus::api
