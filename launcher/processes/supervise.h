// Starts a group of shards and their router, and stays until all of them have ended.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "launcher/processes/command_lines.h"
#include "launcher/processes/spawn.h"

namespace chorus::launcher {

struct GroupPlan {
  int shards = 1;
  std::function<Command(int rank, const Ties&)> shard_command;
  std::function<Command(const Ties&)> router_command;
  std::string api_keys = {};          // for the router's Ties::keys; empty: none
  std::chrono::milliseconds drain{};  // how long the router may finish its streams
  std::function<void(const std::string& address)> on_ready;
};

// Returns the exit code (process/exit_codes.h) when every child has been reaped. SIGINT, SIGTERM
// and SIGHUP end the group in order, a second SIGINT at once. Call it with one thread only: the
// children end with the thread that started them. Throws StartError where the group cannot be
// created; then nothing is left running.
int supervise(const GroupPlan& plan);

}  // namespace chorus::launcher
