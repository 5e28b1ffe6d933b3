// What the launcher creates for its children to talk through. Nothing has a path or a name in the
// file system, so nothing is left behind, and nobody else can connect.
#pragma once

#include <string_view>

#include "launcher/processes/descriptor.h"

namespace chorus::launcher {

struct Ends {
  Descriptor read, write;  // of a pipe; of a socket pair both are equal
};

// Each throws StartError(unavailable) where the system refuses.
Ends make_pipe();         // the read end does not block
Ends make_socket_pair();  // AF_UNIX, SOCK_STREAM
// The shared memory of a group of ranks, one zeroed page long; the ranks enlarge it. Its first
// word is shard/comm's: bit 0 means that the group is aborted.
Descriptor make_group_memory();

// Holds `text` for a child to read: neither its command line nor its environment shows it.
Descriptor make_memory_file(std::string_view text);

// Sets the abort bit and wakes every rank that sleeps on the word.
void abort_group(int group_fd);

}  // namespace chorus::launcher
