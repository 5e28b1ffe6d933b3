// One options table per process: command line, environment, --help and the docs' table all come
// from its rows. Precedence: command line, then presets, then environment, then the default (the
// value that the target holds when the table is made).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace chorus::process {

struct Option {
  using Target =
      std::variant<bool*, int64_t*, double*, std::string*, std::optional<int64_t>*,
                   std::optional<double>*, std::optional<std::string>*, std::vector<std::string>*>;
  std::string_view name;  // "max-concurrent-requests"
  Target target;
  std::string_view help;                     // one sentence; units last
  char short_name = 0;                       // 'p'
  std::optional<double> min = {}, max = {};  // of numbers, inclusive
  std::vector<std::string_view> choices = {};
  std::string_view env = {};  // empty: the name in UPPER_SNAKE_CASE; "-": none
  std::vector<std::string_view> aliases =
      {};               // other names (TGI's older ones), as flags and variables
  bool hidden = false;  // not in --help (file descriptors and the like)
  // A variable whose value this refuses counts as unset, for names that other programs also set.
  bool (*env_counts)(std::string_view) = nullptr;
};

// A value that counts where the command line has none: before the variable and the default.
struct Preset {
  std::string_view option;  // its name in the table
  std::string value;
  std::string source;    // for messages: "environment variable AIP_HTTP_PORT"
  bool counted = false;  // set by parse_options
};

struct Program {
  std::string_view name;     // "chorus-launcher"
  std::string_view summary;  // one sentence
  std::string_view version;
  std::string_view markdown_head = {};  // before and behind the table of --options-markdown
  std::string_view markdown_tail = {};
  std::string_view usage = {};  // behind the name in --help; empty: "[flags]"
};

// Fills the targets. Prints and returns false for --help, --version and --options-markdown (then
// main ends with 0); throws StartError(usage) whose text names flag or variable, value and range,
// and for an unknown flag the nearest known one. An empty environment variable counts as unset. A
// bool takes `--flag` and `--flag true|false`; a list takes its flag repeatedly, or commas in the
// variable.
bool parse_options(const Program& program, std::span<const Option> options, int argc,
                   const char* const* argv, std::span<Preset> presets = {});

// The variable an option is read from; empty where there is none.
std::string variable_of(const Option& option);

// The table for docs/: one Markdown row per option that is not hidden.
std::string options_markdown(std::span<const Option> options);

}  // namespace chorus::process
