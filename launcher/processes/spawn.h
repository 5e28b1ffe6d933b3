// Starts one child process.
#pragma once

#include <string>
#include <vector>

namespace chorus::launcher {

struct Command {
  std::string program;                      // a path
  std::vector<std::string> arguments = {};  // without argv[0]
};

struct Inheritance {
  std::vector<int> descriptors = {};  // open in the child under the same numbers
  int output = -1;                    // becomes its stdout and stderr; its stdin is empty
  bool colour = false;                // its lines end on a terminal: CLICOLOR_FORCE is set
};

// The child has a process group of its own, so that Ctrl-C reaches the launcher alone, gets SIGKILL
// when the calling thread ends, and has no signal blocked or ignored. Returns its process id;
// throws StartError(fault) where the program cannot be run, (unavailable) where there can be no
// more processes.
int spawn(const Command& command, const Inheritance& inheritance);

}  // namespace chorus::launcher
