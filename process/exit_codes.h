// How the processes of Chorus end. The numbers are those of sysexits.h where it has one; docs and
// the launcher's messages use the same table (DESIGN.md, "Statuses and exit codes").
#pragma once

#include <stdexcept>
#include <string>

namespace chorus::process {

enum class ExitCode : int {
  ended_as_asked = 0,
  usage = 2,           // flags: unknown, out of range, contradictory
  model_corrupt = 65,  // model (or key, certificate) file corrupt or unsupported
  model_missing = 66,  // model (or key, certificate) file missing or unreadable
  unavailable = 69,    // port in use, device or memory not available
  fault = 70,          // a fault of ours while running
};

// A process cannot start. The text says what, where and what to do; main prints it in one line.
class StartError : public std::runtime_error {
 public:
  StartError(ExitCode code, const std::string& message)
      : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace chorus::process
