#include "process/options.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "process/exit_codes.h"

namespace chorus::process {
namespace {

struct Values {
  int64_t port = 3000;
  bool json = false;
  double fraction = 0.5;
  std::string device = "auto";
  std::optional<int64_t> total;
  std::optional<std::string> name;
  std::vector<std::string> origins;
};

std::vector<Option> table(Values& values) {
  return {
      {.name = "port",
       .target = &values.port,
       .help = "TCP port.",
       .short_name = 'p',
       .min = 1,
       .max = 65535,
       .env = "TEST_PORT"},
      {.name = "json-output",
       .target = &values.json,
       .help = "Log as JSON.",
       .env = "TEST_JSON_OUTPUT"},
      {.name = "fraction",
       .target = &values.fraction,
       .help = "Share.",
       .min = 0,
       .max = 1,
       .env = "-"},
      {.name = "device",
       .target = &values.device,
       .help = "Where to compute.",
       .choices = {"auto", "cpu"},
       .env = "TEST_DEVICE"},
      {.name = "test-total-tokens",
       .target = &values.total,
       .help = "Prompt and output, tokens.",
       .min = 1,
       .aliases = {"test-total-length"}},
      {.name = "name",
       .target = &values.name,
       .help = "A name.",
       .env = "TEST_NAME",
       .hidden = true,
       .env_counts = [](std::string_view text) { return text != "other"; }},
      {.name = "origin", .target = &values.origins, .help = "An origin.", .env = "TEST_ORIGIN"},
  };
}

bool parse(Values& values, std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "test");
  const std::vector<Option> options = table(values);
  return parse_options({.name = "test", .summary = "A test.", .version = "1.2.3"}, options,
                       static_cast<int>(arguments.size()), arguments.data());
}

std::string refusal(std::vector<const char*> arguments) {
  Values values;
  try {
    parse(values, std::move(arguments));
  } catch (const StartError& error) {
    CHECK(error.code() == ExitCode::usage);
    return error.what();
  }
  return "(accepted)";
}

class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }

 private:
  const char* name_;
};

// What parse_options prints on stdout.
std::string printed(std::vector<const char*> arguments) {
  std::fflush(stdout);
  std::FILE* file = std::tmpfile();
  const int before = dup(STDOUT_FILENO);
  dup2(fileno(file), STDOUT_FILENO);
  Values values;
  const bool go_on = parse(values, std::move(arguments));
  std::fflush(stdout);
  dup2(before, STDOUT_FILENO);
  close(before);
  CHECK_FALSE(go_on);
  std::rewind(file);
  std::string text(20000, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

}  // namespace

TEST_CASE("flags fill their targets, in the long, short, joined and aliased forms") {
  Values values;
  CHECK(parse(values, {"-p", "81", "--device=cpu", "--fraction", "0.25", "--test-total-length", "9",
                       "--origin", "a", "--origin", "b"}));
  CHECK(values.port == 81);
  CHECK(values.device == "cpu");
  CHECK(values.fraction == 0.25);
  CHECK(values.total == 9);
  CHECK(values.origins == std::vector<std::string>{"a", "b"});
  CHECK_FALSE(values.name);
}

TEST_CASE("the command line counts before the environment and that before the default") {
  Values values;
  parse(values, {});
  CHECK(values.port == 3000);
  const Variable port("TEST_PORT", "4000");
  parse(values, {});
  CHECK(values.port == 4000);
  parse(values, {"--port", "5000"});
  CHECK(values.port == 5000);
}

TEST_CASE("a variable's name follows from the flag's where the row names none") {
  const Variable total("TEST_TOTAL_TOKENS", "77");
  Values values;
  parse(values, {});
  CHECK(values.total == 77);
}

TEST_CASE("an alias is read as a variable too, behind the name itself") {
  const Variable older("TEST_TOTAL_LENGTH", "78");
  Values values;
  parse(values, {});
  CHECK(values.total == 78);
  const Variable newer("TEST_TOTAL_TOKENS", "77");
  parse(values, {});
  CHECK(values.total == 77);
}

TEST_CASE("an empty variable and one that does not count are unset") {
  const Variable port("TEST_PORT", "");
  const Variable name("TEST_NAME", "other");
  Values values;
  parse(values, {});
  CHECK(values.port == 3000);
  CHECK_FALSE(values.name);
}

TEST_CASE("a list reads its variable with commas") {
  const Variable origins("TEST_ORIGIN", "a,b,,c");
  Values values;
  parse(values, {});
  CHECK(values.origins == std::vector<std::string>{"a", "b", "c"});
}

TEST_CASE("a bool takes no value, true and false, and both from the environment") {
  Values values;
  parse(values, {"--json-output"});
  CHECK(values.json);
  parse(values, {"--json-output", "false"});
  CHECK_FALSE(values.json);
  parse(values, {"--json-output=true", "-p", "1"});
  CHECK(values.json);
  const Variable json("TEST_JSON_OUTPUT", "0");
  parse(values, {});
  CHECK_FALSE(values.json);
}

TEST_CASE("a refused value is named with its flag or variable and what is allowed") {
  CHECK(refusal({"--port", "70000"}) == "--port: '70000' is not a whole number from 1 to 65535");
  CHECK(refusal({"--port", "-1"}) == "--port: '-1' is not a whole number from 1 to 65535");
  CHECK(refusal({"--port", "12x"}) == "--port: '12x' is not a whole number from 1 to 65535");
  CHECK(refusal({"--fraction", "nan"}) == "--fraction: 'nan' is not a number from 0 to 1");
  CHECK(refusal({"--device", "gpu"}) == "--device: 'gpu' is not one of auto, cpu");
  CHECK(refusal({"--json-output", "yes"}) == "--json-output: 'yes' is not true or false");
  CHECK(refusal({"--test-total-tokens", "0"}) ==
        "--test-total-tokens: '0' is not a whole number of at least 1");
  const Variable port("TEST_PORT", "http");
  CHECK(refusal({}) ==
        "environment variable TEST_PORT: 'http' is not a whole number from 1 to 65535");
}

TEST_CASE("an unknown flag is answered with the nearest known one") {
  CHECK(refusal({"--prot", "80"}) == "unknown flag --prot; did you mean --port?");
  CHECK(refusal({"--test-total-token=4"}) ==
        "unknown flag --test-total-token; did you mean --test-total-tokens?");
  CHECK(refusal({"--something-else"}) == "unknown flag --something-else; --help lists the flags");
  CHECK(refusal({"stray"}) == "'stray' belongs to no flag; --help lists the flags");
}

TEST_CASE("a flag given twice or without its value is refused") {
  CHECK(refusal({"--port", "1", "-p", "2"}) == "--port is given 2 times");
  CHECK(refusal({"--test-total-tokens", "1", "--test-total-length", "2"}) ==
        "--test-total-tokens is given 2 times");
  CHECK(refusal({"--device", "--json-output"}) == "--device needs a value");
  CHECK(refusal({"--port"}).find("--port") != std::string::npos);
}

TEST_CASE("the help page fits 80 columns and leaves hidden options out") {
  const std::string page = printed({"--help"});
  CHECK(page.find("-p, --port <1..65535>") != std::string::npos);
  CHECK(page.find("[TEST_PORT, default 3000]") != std::string::npos);
  CHECK(page.find("--name") == std::string::npos);
  size_t start = 0;
  for (size_t end = page.find('\n'); end != std::string::npos; end = page.find('\n', start)) {
    CHECK(end - start <= 80);
    start = end + 1;
  }
}

TEST_CASE("the version and the Markdown table are printed on request") {
  CHECK(printed({"--version"}) == "test 1.2.3\n");
  const std::string table_text = printed({"--options-markdown"});
  CHECK(table_text.find("| `--port`, `-p` | `TEST_PORT` | a whole number from 1 to 65535 | "
                        "`3000` | TCP port. |") != std::string::npos);
  CHECK(table_text.find("`--name`") == std::string::npos);
}

}  // namespace chorus::process
