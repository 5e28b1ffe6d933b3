// chorus-launcher: the command a person types. Starts the shards and the router, watches them, and
// ends them in order. It touches neither tensors nor requests.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>

#include "launcher/devices/cores.h"
#include "launcher/hub/interruption.h"
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
  for (const auto& line : options.notes) process::log_info("{}", line);
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

// The children are told where the model is and what to call it.
void find_model(launcher::LauncherOptions& options) {
  launcher::FoundModel found = launcher::find_model({.model_id = options.model_id,
                                                     .revision = options.revision,
                                                     .cache = options.huggingface_hub_cache,
                                                     .served_name = options.served_model_name});
  options.model_id = std::move(found.path);
  options.served_model_name = std::move(found.served_name);
  if (!found.commit.empty()) options.model_sha = std::move(found.commit);
  launcher::check_model(options.model_id);
}

int download_weights(launcher::LauncherOptions options) {
  find_model(options);
  std::puts(options.model_id.c_str());
  return 0;
}

int serve(launcher::LauncherOptions options) {
  find_model(options);
  // The children have no use for the hub's token, and inherit what is in the environment.
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_TOKEN"}) unsetenv(name);
  const auto start = std::chrono::steady_clock::now();
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
                                   *options.served_model_name, options.tls_cert ? "https" : "http",
                                   address, options.num_shard, options.num_shard == 1 ? "" : "s",
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
    return options->verb == launcher::Verb::serve ? serve(*options) : download_weights(*options);
  } catch (const launcher::Interrupted& interrupted) {
    process::log_info(
        "{}: ending; what is fetched of the model is kept, and the next start goes on",
        strsignal(interrupted.signal));
    // Asked to end, a server has done as asked; a download has not done what it was started for.
    return options->verb == launcher::Verb::serve ? 0 : 128 + interrupted.signal;
  } catch (const process::StartError& error) {
    return fail(error.code(), error.what());
  } catch (const std::exception& error) {
    return fail(process::ExitCode::fault, error.what());
  }
}
