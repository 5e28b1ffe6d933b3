// The soft limit is 1024 on most systems for the sake of select(), which nothing here calls.
#include "process/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>

namespace chorus::process {

int64_t raise_descriptor_limit() {
  constexpr rlim_t kEnough = 1 << 20;  // where there is no limit
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = std::max(before, std::min(limit.rlim_max, kEnough));
  const bool raised = setrlimit(RLIMIT_NOFILE, &limit) == 0;
  return static_cast<int64_t>(std::min(raised ? limit.rlim_cur : before, kEnough));
}

}  // namespace chorus::process
