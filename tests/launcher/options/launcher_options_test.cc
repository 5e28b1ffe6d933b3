#include "launcher/options/launcher_options.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <sstream>

#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

// Tests see only the variables they set themselves.
class Variables {
 public:
  Variables(std::initializer_list<std::pair<const char*, const char*>> set) {
    for (const char* name : {"HOSTNAME", "PORT", "MODEL_ID", "NUM_SHARD", "LOG_LEVEL", "API_KEY",
                             "CHORUS_API_KEY_FILE"}) {
      unsetenv(name);
    }
    for (const auto& [name, value] : set) {
      setenv(name, value, 1);
      set_.push_back(name);
    }
  }
  ~Variables() {
    for (const char* name : set_) unsetenv(name);
  }

 private:
  std::vector<const char*> set_;
};

LauncherOptions read(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"chorus-launcher", "--model-id", "m"});
  const auto options = read_options(static_cast<int>(arguments.size()), arguments.data(), "1");
  REQUIRE(options);
  return *options;
}

std::string refusal(std::vector<const char*> arguments) {
  try {
    read(std::move(arguments));
  } catch (const process::StartError& error) {
    CHECK(error.code() == process::ExitCode::usage);
    return error.what();
  }
  return "(accepted)";
}

}  // namespace

TEST_CASE("TGI's defaults hold") {
  const Variables none{};
  const LauncherOptions options = read({});
  CHECK(options.port == 3000);
  CHECK(options.hostname == "0.0.0.0");
  CHECK(options.num_shard == 1);
  CHECK(options.max_concurrent_requests == 128);
  CHECK(options.max_stop_sequences == 4);
  CHECK(options.payload_limit == 2'000'000);
  CHECK(options.graceful_termination_timeout == 90);
  CHECK(options.warnings.empty());
}

TEST_CASE("download-weights takes its model as TGI's does, or by flag") {
  const Variables none{};
  const auto parse = [](std::vector<const char*> words) {
    words.insert(words.begin(), "chorus-launcher");
    return *read_options(static_cast<int>(words.size()), words.data(), "1");
  };
  const LauncherOptions options = parse({"download-weights", "acme/tiny", "--revision", "v1"});
  CHECK(options.verb == Verb::download_weights);
  CHECK(options.model_id == "acme/tiny");
  CHECK(options.revision == "v1");
  CHECK(parse({"download-weights", "--model-id", "a/b"}).model_id == "a/b");
  CHECK(parse({"--model-id", "a/b"}).verb == Verb::serve);
}

TEST_CASE("flags count before TGI's variables") {
  const Variables set{{"PORT", "8080"}, {"NUM_SHARD", "2"}, {"MAX_INPUT_LENGTH", "100"}};
  CHECK(read({}).port == 8080);
  CHECK(read({}).num_shard == 2);
  CHECK(read({}).max_input_tokens == 100);
  CHECK(read({"-p", "81", "--max-input-length", "5"}).port == 81);
}

TEST_CASE("HOSTNAME counts only where it is an IP address") {
  {
    const Variables pod{{"HOSTNAME", "chorus-7d9f"}};
    const LauncherOptions options = read({});
    CHECK(options.hostname == "0.0.0.0");
    REQUIRE(options.remarks.size() == 1);
    CHECK(options.remarks[0].find("HOSTNAME='chorus-7d9f'") != std::string::npos);
  }
  const Variables address{{"HOSTNAME", "127.0.0.1"}};
  CHECK(read({}).hostname == "127.0.0.1");
  CHECK(read({"--hostname", "::1"}).hostname == "::1");
  CHECK(refusal({"--hostname", "localhost"}) == "--hostname: 'localhost' is not an IP address");
}

TEST_CASE("what an environment implies counts behind flags, and is told") {
  const Variables cloud{
      {"AIP_HTTP_PORT", "8080"}, {"PORT", "80"}, {"HF_MODEL_TRUST_REMOTE_CODE", "true"}};
  const LauncherOptions taken = read({});
  CHECK(taken.port == 8080);
  CHECK(taken.notes ==
        std::vector<std::string>{"--port 8080: from environment variable AIP_HTTP_PORT"});
  REQUIRE(taken.warnings.size() == 1);
  CHECK(taken.warnings[0].find("HF_MODEL_TRUST_REMOTE_CODE") != std::string::npos);
  CHECK(read({"--port", "81"}).port == 81);
  CHECK(read({"--port", "81"}).notes.empty());
}

TEST_CASE("the verb serve is SageMaker's") {
  const Variables cloud{{"HF_MODEL_ID", "acme/tiny"}, {"HF_MODEL_QUANTIZE", "awq"}, {"PORT", "80"}};
  const auto parse = [](std::vector<const char*> words) {
    words.insert(words.begin(), "chorus-launcher");
    return *read_options(static_cast<int>(words.size()), words.data(), "1");
  };
  const LauncherOptions options = parse({"serve"});
  CHECK(options.model_id == "acme/tiny");
  CHECK(options.quantize == "awq");
  CHECK(options.port == 8080);
  CHECK(options.payload_limit == 6'291'456);
  CHECK(options.graceful_termination_timeout == 25);
  CHECK(parse({"serve", "--model-id", "m", "-p", "81"}).model_id == "m");
  CHECK(parse({"serve", "-p", "81"}).port == 81);
}

TEST_CASE("a LOG_LEVEL of another program's form is ignored with a warning") {
  const Variables set{{"LOG_LEVEL", "info,router=debug"}};
  CHECK(read({}).log_level == "info");
  CHECK(read({}).warnings.size() == 1);
}

TEST_CASE("TGI's flags that Chorus lacks are refused by name") {
  const Variables none{};
  CHECK(refusal({"--ngrok"}) == "--ngrok is TGI's and not in Chorus: tunnels are not built in");
}

TEST_CASE("the type of keys and values is TGI's flag, and refuses what is not built") {
  const Variables none{};
  CHECK(read({}).kv_cache_dtype == "auto");
  for (const char* type : {"auto", "float16", "bfloat16", "fp8_e4m3fn"}) {
    CHECK(read({"--kv-cache-dtype", type}).kv_cache_dtype == type);
  }
  CHECK_THAT(refusal({"--kv-cache-dtype", "fp8_e5m2"}), Catch::Contains("fp8_e4m3fn is as small"));
  CHECK_THAT(refusal({"--kv-cache-dtype", "fp8"}), Catch::Contains("--kv-cache-dtype"));
  const Variables set{{"KV_CACHE_DTYPE", "fp8_e4m3fn"}};
  CHECK(read({}).kv_cache_dtype == "fp8_e4m3fn");
}

TEST_CASE("harmless flags of TGI are accepted with a warning") {
  const Variables none{};
  const auto warnings = read({"--validation-workers", "4", "--trust-remote-code", "--usage-stats",
                              "off", "--disable-custom-kernels", "false"})
                            .warnings;
  REQUIRE(warnings.size() == 3);
  CHECK(warnings[0] ==
        "--trust-remote-code is TGI's and has no effect in Chorus: a model's own code is never "
        "run");
}

TEST_CASE("as variables TGI's other flags only warn") {
  const Variables set{{"ROPE_FACTOR", "2"}, {"PROMETHEUS_PORT", "tcp://10.0.0.1:9090"}};
  CHECK(read({}).warnings.size() == 2);
}

TEST_CASE("keys come from flags or from API_KEY, which is wiped before a child could inherit it") {
  const Variables set{{"API_KEY", "one,two"}};
  CHECK(read({"--api-key", "a:b", "--api-key", "c"}).api_keys ==
        std::vector<std::string>{"a:b", "c"});
  CHECK(std::getenv("API_KEY") == nullptr);
  const Variables again{{"API_KEY", "one,two"}};
  CHECK(read({}).api_keys == std::vector<std::string>{"one", "two"});
  CHECK(std::getenv("API_KEY") == nullptr);
}

TEST_CASE("what looks like a key and is none does not leave the server open") {
  const char* value = GENERATE(",", "a, b", " ", "with\ttab");
  const Variables set{{"API_KEY", value}};
  const std::string why = refusal({});
  CHECK(why.find("API_KEY") != std::string::npos);
  CHECK(why.find("tab") == std::string::npos);
  CHECK(refusal({"--api-key", ""}) != "(accepted)");
  CHECK(refusal({"--metrics-need-key"}) != "(accepted)");
}

TEST_CASE("an origin that no page could have is refused") {
  const Variables none{};
  CHECK(read({"--cors-allow-origin", "https://a.example", "--cors-allow-origin",
              "http://localhost:5173"})
            .cors_allow_origin.size() == 2);
  CHECK(read({"--cors-allow-origin", "*"}).cors_allow_origin.size() == 1);
  for (const char* wrong : {"a.example", "https://a.example/", "https://", "https://a b"}) {
    CHECK(refusal({"--cors-allow-origin", wrong}).find("is no origin") != std::string::npos);
  }
  CHECK(refusal({"--tls-cert", "a.pem"}) == "--tls-cert and --tls-key belong together");
}

TEST_CASE("contradictions between flags are refused") {
  const Variables none{};
  CHECK(refusal({"--sharded", "true"}) == "--sharded true needs --num-shard of at least 2");
  CHECK(refusal({"--sharded", "false", "--num-shard", "2"}) ==
        "--sharded false contradicts --num-shard 2");
  CHECK(read({"--sharded", "true", "--num-shard", "2"}).num_shard == 2);
  CHECK(refusal({"--max-input-tokens", "8", "--max-total-tokens", "8"}) ==
        "--max-input-tokens 8 must be below --max-total-tokens 8");
  const char* bare[] = {"chorus-launcher"};
  CHECK_THROWS_WITH(read_options(1, bare, "1"), Catch::Matchers::Contains("--model-id is missing"));
}

// To renew the page: chorus-launcher --options-markdown > docs/flags.md
TEST_CASE("docs/flags.md is what the table says") {
  std::ifstream file(CHORUS_SOURCE_DIR "/docs/flags.md");
  REQUIRE(file);
  std::stringstream page;
  page << file.rdbuf();
  CHECK(page.str() == flags_page());
}

}  // namespace chorus::launcher
