#include "launcher/processes/channels.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdint>

namespace chorus::launcher {

TEST_CASE("aborting a group sets the lowest bit of its first word and keeps the others") {
  const Descriptor memory = make_group_memory();
  uint32_t word = 6;
  REQUIRE(pwrite(memory.get(), &word, sizeof word, 0) == sizeof word);
  abort_group(memory.get());
  REQUIRE(pread(memory.get(), &word, sizeof word, 0) == sizeof word);
  CHECK(word == 7);
  struct stat status {};
  REQUIRE(fstat(memory.get(), &status) == 0);
  CHECK(status.st_size == 4096);
}

TEST_CASE("every descriptor for children is close-on-exec until it is handed over") {
  const Ends pipe = make_pipe();
  const Ends sockets = make_socket_pair();
  const Descriptor memory = make_group_memory();
  for (const Descriptor* fd : {&pipe.read, &pipe.write, &sockets.read, &sockets.write, &memory}) {
    CHECK((fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
}

}  // namespace chorus::launcher
