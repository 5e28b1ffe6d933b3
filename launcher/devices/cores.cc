// Reads the affinity mask and the CPU quota. The quota of the innermost cgroup counts as well as
// those of its parents, so all of them are looked at where they are visible (in a container the
// mount usually begins at the container's own cgroup).
#include "launcher/devices/cores.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace chorus::launcher {
namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

void lower(int& cores, std::optional<int> limit) {
  if (limit) cores = std::min(cores, *limit);
}

// The path of this process in the cgroup hierarchy, from a line "0::/path" or
// "4:cpu,cpuacct:/path".
std::string cgroup_path(std::string_view controller) {
  std::istringstream lines(read_text("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = ',' + line.substr(first + 1, second - first - 1) + ',';
    if (names.find(',' + std::string(controller) + ',') != std::string::npos) {
      return line.substr(second + 1);
    }
  }
  return "/";
}

void apply_quotas(int& cores) {
  namespace fs = std::filesystem;
  const fs::path v2 = "/sys/fs/cgroup";
  for (fs::path below = fs::path(cgroup_path("")).relative_path();; below = below.parent_path()) {
    lower(cores, cores_of_cpu_max(read_text(v2 / below / "cpu.max")));
    if (below.empty()) break;
  }
  const fs::path v1 = "/sys/fs/cgroup/cpu";
  for (fs::path below = fs::path(cgroup_path("cpu")).relative_path();;
       below = below.parent_path()) {
    lower(cores, cores_of_quota(read_text(v1 / below / "cpu.cfs_quota_us"),
                                read_text(v1 / below / "cpu.cfs_period_us")));
    if (below.empty()) break;
  }
}

}  // namespace

std::optional<int> cores_of_cpu_max(std::string_view text) {
  const size_t space = std::min(text.find(' '), text.size());
  return cores_of_quota(text.substr(0, space), text.substr(std::min(space + 1, text.size())));
}

std::optional<int> cores_of_quota(std::string_view quota, std::string_view period) {
  const auto allowed = number(quota);
  const auto length = number(period);
  if (!allowed || !length || *allowed <= 0 || *length <= 0) return std::nullopt;
  return static_cast<int>(std::clamp(*allowed / *length, 1.0, 1e6));
}

int usable_cores() {
  cpu_set_t mask;
  // More than CPU_SETSIZE (1024) cores make the call fail; then that many are taken.
  int cores = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : CPU_SETSIZE;
  apply_quotas(cores);
  return std::max(cores, 1);
}

}  // namespace chorus::launcher
