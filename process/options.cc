// The options table. CLI11 takes the command line apart (long and short names, `=`, clusters);
// everything about values, the same for flags and variables, is decided here, so that a message
// always names where the value came from, the value, and what is allowed.
#include "process/options.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "process/exit_codes.h"

namespace chorus::process {
namespace {

constexpr size_t kHelpWidth = 80;
constexpr size_t kHelpIndent = 30;

[[noreturn]] void refuse(const std::string& message) {
  throw StartError(ExitCode::usage, message);
}

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

bool is_bool(const Option& option) {
  return std::holds_alternative<bool*>(option.target);
}
bool is_list(const Option& option) {
  return std::holds_alternative<std::vector<std::string>*>(option.target);
}
bool is_whole(const Option& option) {
  return std::holds_alternative<int64_t*>(option.target) ||
         std::holds_alternative<std::optional<int64_t>*>(option.target);
}
bool is_number(const Option& option) {
  return is_whole(option) || std::holds_alternative<double*>(option.target) ||
         std::holds_alternative<std::optional<double>*>(option.target);
}

// Not fmt::join: g++ 12 warns at -O3 inside fmt 9 where it is used.
template <class Texts>
std::string join(const Texts& texts, std::string_view separator) {
  std::string out;
  for (const auto& text : texts) {
    if (!out.empty()) out += separator;
    out += text;
  }
  return out;
}

std::string upper_snake(std::string_view flag) {
  std::string name(flag);
  for (char& c : name) c = c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return name;
}

std::string flag_of(const Option& option) {
  return fmt::format("--{}", option.name);
}

std::string bound(const Option& option, double value) {
  return is_whole(option) ? fmt::format("{}", static_cast<int64_t>(value))
                          : fmt::format("{}", value);
}

// "a whole number from 1 to 65535", for messages and the docs' table.
std::string allowed(const Option& option) {
  if (is_bool(option)) return "true or false";
  if (!option.choices.empty()) return "one of " + join(option.choices, ", ");
  if (!is_number(option)) return is_list(option) ? "text, may be repeated" : "text";
  std::string text = is_whole(option) ? "a whole number" : "a number";
  if (option.min && option.max) {
    text += fmt::format(" from {} to {}", bound(option, *option.min), bound(option, *option.max));
  } else if (option.min) {
    text += fmt::format(" of at least {}", bound(option, *option.min));
  } else if (option.max) {
    text += fmt::format(" of at most {}", bound(option, *option.max));
  }
  return text;
}

[[noreturn]] void refuse_value(const Option& option, const std::string& source,
                               const std::string& value) {
  refuse(fmt::format("{}: '{}' is not {}", source, value, allowed(option)));
}

template <class Number>
Number read_number(const Option& option, const std::string& source, const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) refuse_value(option, source, text);
  const auto real = static_cast<double>(value);
  if (!std::isfinite(real) || (option.min && real < *option.min) ||
      (option.max && real > *option.max)) {
    refuse_value(option, source, text);
  }
  return value;
}

bool read_bool(const Option& option, const std::string& source, const std::string& text) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  refuse_value(option, source, text);
}

const std::string& read_text(const Option& option, const std::string& source,
                             const std::string& text) {
  const bool known =
      option.choices.empty() ||
      std::find(option.choices.begin(), option.choices.end(), text) != option.choices.end();
  if (!known) refuse_value(option, source, text);
  return text;
}

void assign(const Option& option, const std::string& source,
            const std::vector<std::string>& values) {
  const std::string& value = values.back();
  const auto whole = [&](auto* target) { *target = read_number<int64_t>(option, source, value); };
  const auto real = [&](auto* target) { *target = read_number<double>(option, source, value); };
  const auto text = [&](auto* target) { *target = read_text(option, source, value); };
  std::visit(Overloaded{
                 [&](bool* target) { *target = read_bool(option, source, value); },
                 [&](int64_t* target) { whole(target); },
                 [&](std::optional<int64_t>* target) { whole(target); },
                 [&](double* target) { real(target); },
                 [&](std::optional<double>* target) { real(target); },
                 [&](std::string* target) { text(target); },
                 [&](std::optional<std::string>* target) { text(target); },
                 [&](std::vector<std::string>* target) {
                   target->clear();
                   for (const std::string& one : values) {
                     target->push_back(read_text(option, source, one));
                   }
                 },
             },
             option.target);
}

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// The variables that an option is read from, the one that counts first.
std::vector<std::string> variables_of(const Option& option) {
  if (option.env == "-") return {};
  std::vector<std::string> names = {variable_of(option)};
  for (const std::string_view alias : option.aliases) names.push_back(upper_snake(alias));
  return names;
}

void assign_variable(const Option& option) {
  for (const std::string& name : variables_of(option)) {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') continue;
    if (option.env_counts != nullptr && !option.env_counts(value)) continue;
    const std::vector<std::string> values =
        is_list(option) ? split_commas(value) : std::vector<std::string>{value};
    if (values.empty()) continue;
    assign(option, "environment variable " + name, values);
    return;
  }
}

bool assign_preset(const Option& option, std::span<Preset> presets) {
  for (Preset& preset : presets) {
    if (preset.option != option.name) continue;
    assign(option, preset.source, {preset.value});
    preset.counted = true;
    return true;
  }
  return false;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

[[noreturn]] void refuse_unknown(std::span<const Option> options, const std::string& argument) {
  if (argument.size() < 2 || argument[0] != '-') {
    refuse(fmt::format("'{}' belongs to no flag; --help lists the flags", argument));
  }
  const std::string flag = argument.substr(0, argument.find('='));
  const std::string_view word = std::string_view(flag).substr(flag.find_first_not_of('-'));
  std::string_view nearest;
  size_t best = std::max<size_t>(2, word.size() / 3) + 1;
  const auto consider = [&](std::string_view name) {
    const size_t distance = edit_distance(word, name);
    if (distance < best) {
      best = distance;
      nearest = name;
    }
  };
  for (const Option& option : options) {
    if (option.hidden) continue;
    consider(option.name);
    for (const std::string_view alias : option.aliases) consider(alias);
  }
  refuse(nearest.empty() ? fmt::format("unknown flag {}; --help lists the flags", flag)
                         : fmt::format("unknown flag {}; did you mean --{}?", flag, nearest));
}

std::string cli_names(const Option& option) {
  std::string names = flag_of(option);
  if (option.short_name != 0) names += fmt::format(",-{}", option.short_name);
  for (const std::string_view alias : option.aliases) names += fmt::format(",--{}", alias);
  return names;
}

CLI::Option* add(CLI::App& app, const Option& option) {
  CLI::Option* added = app.add_option(cli_names(option));
  added->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  if (is_bool(option)) {
    added->expected(0, 1);
  } else {
    added->expected(1);
  }
  return added;
}

void assign_flag(const Option& option, const CLI::Option& parsed) {
  const std::vector<std::string>& values = parsed.results();
  if (values.size() > 1 && !is_list(option)) {
    refuse(fmt::format("{} is given {} times", flag_of(option), values.size()));
  }
  for (const std::string& value : values) {
    if (value.starts_with("--")) refuse(fmt::format("{} needs a value", flag_of(option)));
  }
  const bool bare = is_bool(option) && values[0].empty();
  assign(option, flag_of(option), bare ? std::vector<std::string>{"true"} : values);
}

std::string default_of(const Option& option) {
  return std::visit(
      Overloaded{
          [](const bool* target) -> std::string { return *target ? "true" : "false"; },
          [](const int64_t* target) { return fmt::format("{}", *target); },
          [](const double* target) { return fmt::format("{}", *target); },
          [](const std::string* target) { return *target; },
          [](const std::vector<std::string>* target) { return join(*target, ","); },
          [](const auto* target) { return *target ? fmt::format("{}", **target) : std::string(); },
      },
      option.target);
}

// What stands behind the flag in --help: "<1..65535>", "<debug|info>".
std::string placeholder(const Option& option) {
  if (is_bool(option)) return "";
  if (!option.choices.empty()) return " <" + join(option.choices, "|") + ">";
  if (!is_number(option)) return " <text>";
  if (option.min && option.max && *option.max < 1e6) {
    return fmt::format(" <{}..{}>", bound(option, *option.min), bound(option, *option.max));
  }
  return option.min ? fmt::format(" <{}..>", bound(option, *option.min)) : " <number>";
}

// `text` in lines of at most kHelpWidth, each behind an indent; the first one continues `line`.
std::string wrapped(std::string line, std::string_view text) {
  std::string out;
  const auto next_line = [&] {
    out += line + '\n';
    line.clear();
  };
  if (line.size() + 2 > kHelpIndent) next_line();
  line.resize(kHelpIndent, ' ');
  bool first = true;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (!first && line.size() + 1 + end > kHelpWidth) {
      next_line();
      line.resize(kHelpIndent, ' ');
      first = true;
    }
    if (!first) line += ' ';
    line += text.substr(0, end);
    first = false;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out + line + '\n';
}

std::string help_row(const Option& option) {
  std::string line = option.short_name != 0 ? fmt::format("  -{}, ", option.short_name) : "      ";
  line += flag_of(option) + placeholder(option);
  const std::string fallback = default_of(option);
  std::string notes = variable_of(option);
  if (!fallback.empty() && fallback != "false") {
    notes += (notes.empty() ? "default " : ", default ") + fallback;
  }
  std::string text(option.help);
  if (!notes.empty()) text += " [" + notes + "]";
  return wrapped(std::move(line), text);
}

std::string help_page(const Program& program, std::span<const Option> options) {
  std::string page =
      fmt::format("{} {}\n{}\n\nUsage: {} {}\n\n", program.name, program.version, program.summary,
                  program.name, program.usage.empty() ? "[flags]" : program.usage);
  for (const Option& option : options) {
    if (!option.hidden) page += help_row(option);
  }
  page += wrapped("  -h, --help", "Print this page.");
  page += wrapped("  -V, --version", "Print the version.");
  page += wrapped("      --options-markdown", "Print the table of the flags as Markdown.");
  page += "\nA flag counts before its environment variable [NAME], that before the default.\n";
  return page;
}

// `text` as the cell of a Markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

}  // namespace

std::string variable_of(const Option& option) {
  if (option.env == "-") return "";
  return option.env.empty() ? upper_snake(option.name) : std::string(option.env);
}

std::string options_markdown(std::span<const Option> options) {
  std::string page = "| Flag | Variable | Value | Default | Meaning |\n|---|---|---|---|---|\n";
  for (const Option& option : options) {
    if (option.hidden) continue;
    std::string names = fmt::format("`--{}`", option.name);
    if (option.short_name != 0) names += fmt::format(", `-{}`", option.short_name);
    for (const std::string_view alias : option.aliases) names += fmt::format(", `--{}`", alias);
    const std::string env = variable_of(option);
    const std::string fallback = default_of(option);
    page += fmt::format("| {} | {} | {} | {} | {} |\n", names, env.empty() ? "" : '`' + env + '`',
                        cell(allowed(option)), fallback.empty() ? "" : '`' + cell(fallback) + '`',
                        cell(option.help));
  }
  return page;
}

bool parse_options(const Program& program, std::span<const Option> options, int argc,
                   const char* const* argv, std::span<Preset> presets) {
  CLI::App app{std::string(program.summary), std::string(program.name)};
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("--help,-h");
  const CLI::Option* version = app.add_flag("--version,-V");
  const CLI::Option* markdown = app.add_flag("--options-markdown");
  std::vector<const CLI::Option*> parsed;
  for (const Option& option : options) parsed.push_back(add(app, option));

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    refuse(error.what());
  }
  std::string answer;
  if (help->count() > 0) {
    answer = help_page(program, options);
  } else if (version->count() > 0) {
    answer = fmt::format("{} {}\n", program.name, program.version);
  } else if (markdown->count() > 0) {
    answer = std::string(program.markdown_head) + options_markdown(options) +
             std::string(program.markdown_tail);
  }
  if (!answer.empty()) {
    std::fputs(answer.c_str(), stdout);
    std::fflush(stdout);
    return false;
  }
  if (const auto extras = app.remaining(); !extras.empty()) refuse_unknown(options, extras[0]);
  for (size_t i = 0; i < options.size(); ++i) {
    if (parsed[i]->count() > 0) {
      assign_flag(options[i], *parsed[i]);
    } else if (!assign_preset(options[i], presets)) {
      assign_variable(options[i]);
    }
  }
  return true;
}

}  // namespace chorus::process
