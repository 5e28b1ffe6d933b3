// What every child of the launcher does first, so that nothing is left behind whatever dies.
#pragma once

#include <string>

namespace chorus::process {

// The kernel sends SIGKILL to this process when the thread that spawned it ends (Linux
// PR_SET_PDEATHSIG); ends at once where that parent is gone already. `parent_pid` is the
// launcher's, 0: run by hand, nothing to do.
void die_with_parent(int parent_pid);

// Marks a descriptor close-on-exec; throws StartError(usage) naming `flag` where it is not open.
void take_inherited(int fd, const char* flag);

// All that an inherited memory file holds; the descriptor stays as it is, so that whoever started
// this process can hand it to the next one too. Throws StartError(usage).
std::string read_memory_file(int fd);

}  // namespace chorus::process
