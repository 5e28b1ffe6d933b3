#include "launcher/processes/command_lines.h"

#include <algorithm>
#include <catch2/catch.hpp>

namespace chorus::launcher {

using Arguments = std::vector<std::string>;

TEST_CASE("a shard is told its rank, its descriptors and the limits that are set") {
  LauncherOptions options;
  options.model_id = "m.gguf";
  options.num_shard = 2;
  options.max_batch_size = 8;
  const Command command = shard_command(options, "/opt/bin", 0, 3,
                                        {.channel = 5, .group = 6, .status = 7, .parent_pid = 99});
  CHECK(command.program == "/opt/bin/chorus-shard");
  CHECK(command.arguments == Arguments{"--model-id",        "m.gguf", "--rank",           "0",
                                       "--ranks",           "2",      "--channel-fd",     "5",
                                       "--group-fd",        "6",      "--status-fd",      "7",
                                       "--parent-pid",      "99",     "--device",         "auto",
                                       "--dtype",           "auto",   "--kv-cache-dtype", "auto",
                                       "--threads",         "3",      "--cpu-path",       "auto",
                                       "--kv-cache-tokens", "0",      "--max-batch-size", "8",
                                       "--json-output",     "false",  "--log-level",      "info"});
}

TEST_CASE("the router is told what to call the model") {
  LauncherOptions options;
  options.model_id = "/cache/snapshot";
  options.served_model_name = "acme/tiny";
  options.model_sha = "0123";
  const Arguments arguments = router_command(options, "/opt/bin", {}).arguments;
  const Arguments begin(arguments.begin(), arguments.begin() + 6);
  CHECK(begin == Arguments{"--model-id", "/cache/snapshot", "--served-model-name", "acme/tiny",
                           "--model-sha", "0123"});
}

TEST_CASE("the router is told the address and every limit of requests") {
  LauncherOptions options;
  options.model_id = "m.gguf";
  options.max_input_tokens = 10;
  options.max_total_tokens = 20;
  options.json_output = true;
  const Command command =
      router_command(options, "/opt/bin", {.channel = 5, .status = 7, .parent_pid = 99});
  CHECK(command.program == "/opt/bin/chorus-router");
  CHECK(command.arguments == Arguments{"--model-id",
                                       "m.gguf",
                                       "--messages-api-enabled",
                                       "false",
                                       "--channel-fd",
                                       "5",
                                       "--status-fd",
                                       "7",
                                       "--parent-pid",
                                       "99",
                                       "--hostname",
                                       "0.0.0.0",
                                       "--port",
                                       "3000",
                                       "--max-concurrent-requests",
                                       "128",
                                       "--max-stop-sequences",
                                       "4",
                                       "--max-best-of",
                                       "2",
                                       "--max-top-n-tokens",
                                       "5",
                                       "--max-input-tokens",
                                       "10",
                                       "--max-total-tokens",
                                       "20",
                                       "--payload-limit",
                                       "2000000",
                                       "--graceful-termination-timeout",
                                       "90",
                                       "--json-output",
                                       "true",
                                       "--log-level",
                                       "info"});
}

TEST_CASE("keys travel by descriptor, never on a command line") {
  LauncherOptions options;
  options.api_keys = {"sekret:1", "sekret2"};
  options.api_key_file = "/run/keys";
  options.metrics_need_key = true;
  CHECK(api_key_lines(options) == "api-key-1:sekret:1\napi-key-2:sekret2\n");
  const Arguments arguments =
      router_command(options, "/opt/bin", {.channel = 5, .status = 7, .keys = 8}).arguments;
  const auto has = [&](const std::string& text) {
    return std::find(arguments.begin(), arguments.end(), text) != arguments.end();
  };
  CHECK(has("--api-key-fd"));
  CHECK(has("/run/keys"));
  CHECK(has("--metrics-need-key"));
  for (const std::string& argument : arguments) {
    CHECK(argument.find("sekret") == std::string::npos);
  }
}

}  // namespace chorus::launcher
