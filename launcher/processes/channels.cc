// Pipes, the socket pair between the router and rank 0, and the shard group's memory file.
#include "launcher/processes/channels.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <system_error>

#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

constexpr size_t kPageBytes = 4096;

void check(bool good, const char* what) {
  if (good) return;
  throw process::StartError(
      process::ExitCode::unavailable,
      fmt::format("cannot make {}: {}", what, std::generic_category().message(errno)));
}

}  // namespace

Ends make_pipe() {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC) == 0, "a pipe to a child");
  Ends made{.read = Descriptor(ends[0]), .write = Descriptor(ends[1])};
  check(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0, "a pipe to a child");
  return made;
}

Ends make_socket_pair() {
  int ends[2];
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0,
        "the socket pair between router and shard");
  return {.read = Descriptor(ends[0]), .write = Descriptor(ends[1])};
}

Descriptor make_group_memory() {
  Descriptor memory(memfd_create("chorus-group", MFD_CLOEXEC));
  check(memory.open(), "the shards' shared memory");
  // The first page is there from the start, so that an abort never has to change the size while
  // the ranks do.
  check(ftruncate(memory.get(), kPageBytes) == 0, "the shards' shared memory");
  return memory;
}

Descriptor make_memory_file(std::string_view text) {
  Descriptor memory(memfd_create("chorus-keys", MFD_CLOEXEC));
  check(memory.open(), "memory for a child to read");
  while (!text.empty()) {
    const ssize_t written = write(memory.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    check(written > 0, "memory for a child to read");
    text.remove_prefix(static_cast<size_t>(written));
  }
  return memory;
}

void abort_group(int group_fd) {
  void* page = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, group_fd, 0);
  if (page == MAP_FAILED) {
    process::log_error("the group's shared memory cannot be mapped to abort it: {}",
                       std::generic_category().message(errno));
    return;
  }
  auto* word = static_cast<std::atomic<uint32_t>*>(page);
  static_assert(sizeof *word == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
  // Or, not store: the other bits count the group's events, and a rank compares them.
  word->fetch_or(1);
  syscall(SYS_futex, page, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  munmap(page, kPageBytes);
}

}  // namespace chorus::launcher
