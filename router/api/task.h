// The one name for coroutines of the router.
#pragma once

#include <boost/asio/awaitable.hpp>

namespace chorus::api {

template <class T = void>
using Task = boost::asio::awaitable<T>;

}  // namespace chorus::api
