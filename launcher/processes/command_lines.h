// What the shards and the router are started with. A value travels on the command line alone, so
// a variable that the children also read never overrides what the launcher decided.
#pragma once

#include <filesystem>
#include <string>

#include "launcher/options/launcher_options.h"
#include "launcher/processes/spawn.h"

namespace chorus::launcher {

// The descriptors and the process that a child is told about; -1: it has none of that kind.
struct Ties {
  int channel = -1;  // between the router and rank 0
  int group = -1;    // memory of the shard group, for more than one shard
  int status = -1;
  int keys = -1;  // memory with the router's API keys
  int parent_pid = 0;
};

// `programs`: the folder that chorus-shard and chorus-router lie in.
Command shard_command(const LauncherOptions& options, const std::filesystem::path& programs,
                      int rank, int threads, const Ties& ties);
// The lines of the router's --api-key-fd: `name:key`. Empty: --api-key was not given.
std::string api_key_lines(const LauncherOptions& options);
Command router_command(const LauncherOptions& options, const std::filesystem::path& programs,
                       const Ties& ties);

}  // namespace chorus::launcher
