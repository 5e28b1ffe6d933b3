// Rendering and tokenising: short work is done where the request was read, long work on the pool,
// so that a connection's thread never holds up its other connections for milliseconds.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <type_traits>
#include <utility>

#include "router/api/service.h"
#include "router/api/task.h"

namespace chorus::api {

// Up to this size of a text, the work is shorter than the hop to the pool and back is worth.
inline constexpr size_t kPromptBytesInline = 8 * 1024;

// Calls the job on whatever executor runs it.
template <class Job>
Task<std::invoke_result_t<Job>> run_job(Job job) {
  co_return job();
}

// `text_bytes`: how much the job has to read. The job owns what it needs, or refers to what
// outlives the request.
template <class Job>
Task<std::invoke_result_t<Job>> run_prompt_job(Service& service, size_t text_bytes, Job job) {
  if (text_bytes <= kPromptBytesInline) co_return job();
  auto task = run_job(std::move(job));
  auto result = co_await boost::asio::co_spawn(service.prompt_pool().get_executor(),
                                               std::move(task), boost::asio::use_awaitable);
  co_return result;
}

}  // namespace chorus::api
