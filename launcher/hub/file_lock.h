// A lock file, held until this object or the process ends; the file itself stays, as Python's do.
#pragma once

#include <filesystem>
#include <string_view>

#include "launcher/hub/interruption.h"
#include "launcher/processes/descriptor.h"

namespace chorus::launcher {

class FileLock {
 public:
  // Waits for another process that holds it, after one line of the log that says `doing`. Where
  // the file system has no locks there is a warning and no lock. Throws Interrupted, and
  // StartError(unavailable) where the file cannot be made.
  FileLock(const std::filesystem::path& path, std::string_view doing,
           const Interruption& interruption);

 private:
  Descriptor fd_;
};

}  // namespace chorus::launcher
