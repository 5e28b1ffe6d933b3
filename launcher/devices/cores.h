// How much of the machine this process may use. std::thread::hardware_concurrency knows the
// affinity mask but not a container's CPU quota, and threads beyond the quota only wait for it.
#pragma once

#include <optional>
#include <string_view>

namespace chorus::launcher {

// Cores by the affinity mask and the cgroup's CPU quota (version 2 or 1); at least 1.
int usable_cores();

// Whole cores in cgroup v2's cpu.max ("150000 100000" is 1, "max 100000" none), at least 1.
std::optional<int> cores_of_cpu_max(std::string_view text);
// The same from cgroup v1's cpu.cfs_quota_us and cpu.cfs_period_us.
std::optional<int> cores_of_quota(std::string_view quota, std::string_view period);

}  // namespace chorus::launcher
