// chorus-launcher: the command a person types. Starts the shards and the router, watches them, and
// ends them in order. It touches neither tensors nor requests.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>

#include "launcher/devices/cores.h"
#include "launcher/hub/local_model.h"
#include "launcher/options/launcher_options.h"
#include "launcher/processes/command_lines.h"
#include "launcher/processes/supervise.h"
#include "process/exit_codes.h"
#include "process/log.h"

namespace {

using namespace chorus;

// A pipe to a child must not become descriptor 0, 1 or 2 where we were started without those.
void open_standard_streams() {
  int fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDWR);
  if (fd >= 0) close(fd);
}

void start_log(const launcher::LauncherOptions& options) {
  process::start_log({.process = "launcher",
                      .json = options.json_output,
                      .level = process::parse_log_level(options.log_level)});
  for (const auto& line : options.warnings) process::log_warn("{}", line);
  for (const auto& line : options.remarks) process::log_debug("{}", line);
}

int threads_per_shard(const launcher::LauncherOptions& options) {
  if (options.threads) return static_cast<int>(*options.threads);
  const int shards = static_cast<int>(options.num_shard);
  const int cores = launcher::usable_cores();
  if (shards > cores) {
    process::log_warn("{} shards share {} cores: they will wait for each other", shards, cores);
  }
  return std::max(cores / shards, 1);
}

int serve(const launcher::LauncherOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const std::string model = launcher::check_model(options.model_id);
  const auto programs = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const int threads = threads_per_shard(options);
  return launcher::supervise(
      {.shards = static_cast<int>(options.num_shard),
       .shard_command =
           [&](int rank, const launcher::Ties& ties) {
             return launcher::shard_command(options, programs, rank, threads, ties);
           },
       .router_command =
           [&](const launcher::Ties& ties) {
             return launcher::router_command(options, programs, ties);
           },
       .api_keys = launcher::api_key_lines(options),
       .drain = std::chrono::seconds(options.graceful_termination_timeout),
       .on_ready =
           [&](const std::string& address) {
             const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
             std::puts(fmt::format("Chorus serves {} on {}://{} ({} shard{}, ready in {:.1f} s)",
                                   model, options.tls_cert ? "https" : "http", address,
                                   options.num_shard, options.num_shard == 1 ? "" : "s",
                                   took.count())
                           .c_str());
             std::fflush(stdout);
           }});
}

// Mistakes on the command line are answered without the form of a log.
std::optional<launcher::LauncherOptions> options_or_exit(int argc, char** argv) {
  try {
    return launcher::read_options(argc, argv, CHORUS_VERSION);
  } catch (const process::StartError& error) {
    std::fputs(fmt::format("chorus-launcher: {}\n", error.what()).c_str(), stderr);
    std::exit(static_cast<int>(error.code()));
  }
}

int fail(process::ExitCode code, const char* message) {
  process::log_error("{}", message);
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  const auto options = options_or_exit(argc, argv);
  if (!options) return 0;
  try {
    start_log(*options);
    return serve(*options);
  } catch (const process::StartError& error) {
    return fail(error.code(), error.what());
  } catch (const std::exception& error) {
    return fail(process::ExitCode::fault, error.what());
  }
}
