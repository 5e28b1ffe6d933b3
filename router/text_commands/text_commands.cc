#include "router/text_commands/text_commands.h"

#include <fmt/format.h>

#include <array>
#include <iostream>
#include <string>

#include "process/exit_codes.h"
#include "process/options.h"
#include "router/text_commands/command.h"

namespace chorus::text_commands {
namespace {

using process::ExitCode;
using process::StartError;

struct Command {
  std::string_view name;
  std::string_view summary;
  Answer (*make)(const Flags&);   // null: takes no lines
  bool tokenizer, chat_template;  // which of the flags it has
};

constexpr std::array kCommands = {
    Command{"tokenize", R"({"text", "add_special_tokens"?} -> {"ids"})", make_tokenize, true,
            false},
    Command{"detokenize",
            R"({"ids", "skip_special_tokens"?, "stop"?} -> {"pieces", "text", "finish"})",
            make_detokenize, true, false},
    Command{"stop", R"({"chunks", "stop", "include_stop"?} -> {"pieces", "text", "finish"})",
            make_stop, false, false},
    Command{"render", R"({"messages", "tools"?, ...: the template's variables} -> {"text"})",
            make_render, true, true},
    Command{"lint", "checks a model's templates and tokenizer, prints what it finds", nullptr, true,
            true},
};

void print_commands() {
  std::cout
      << "chorus-router text COMMAND [flags]: what a model makes of text, without a server and "
         "without its weights.\nOne JSON object per line of standard input, one per line of "
         "standard output; a line that fails\nis answered with {\"error\": ...}.\n\n";
  for (const Command& command : kCommands) {
    std::cout << fmt::format("  {:<12}{}\n", command.name, command.summary);
  }
  std::cout << "\nchorus-router text COMMAND --help lists a command's flags.\n";
}

const Command& find_command(std::string_view name) {
  std::string names;
  for (const Command& command : kCommands) {
    if (command.name == name) return command;
    names += (names.empty() ? "" : ", ") + std::string(command.name);
  }
  throw StartError(ExitCode::usage,
                   fmt::format("text {}: there is no such command; there are: {}", name, names));
}

// Nothing where --help was answered.
std::optional<Flags> read_flags(const Command& command, std::string_view version, int argc,
                                const char* const* argv) {
  Flags flags;
  std::string now;
  std::vector<process::Option> table;
  if (command.tokenizer) {
    table.push_back({.name = "model-id",
                     .target = &flags.model_id,
                     .help = "A folder of Hugging Face files, a .gguf file or a tokenizer.json.",
                     .env = "-"});
  }
  if (command.chat_template) {
    table.push_back({.name = "template",
                     .target = &flags.template_file,
                     .help = "A file with a chat template, in place of the model's.",
                     .env = "-"});
    table.push_back({.name = "now",
                     .target = &now,
                     .help = "The time that templates see, as 2025-07-27T11:30:45 (UTC).",
                     .env = "-"});
  }
  const std::string name = fmt::format("chorus-router text {}", command.name);
  const process::Program program{name, command.summary, version};
  if (!process::parse_options(program, table, argc, argv)) return std::nullopt;
  if (!now.empty()) {
    flags.now = parse_iso_time(now);
    if (!flags.now) {
      throw StartError(ExitCode::usage,
                       fmt::format("--now {}: a time like 2025-07-27T11:30:45 is expected", now));
    }
  }
  return flags;
}

Json answer_line(const Answer& answer, const std::string& line) {
  const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (request.is_discarded()) return failed("the line is not valid JSON");
  if (!request.is_object()) return failed("the line is not a JSON object");
  return answer(request);
}

}  // namespace

int run(int argc, const char* const* argv, std::string_view version) {
  const std::string_view name = argc > 2 ? argv[2] : "";
  if (name.empty() || name == "--help" || name == "-h" || name == "help") {
    print_commands();
    return static_cast<int>(name.empty() ? ExitCode::usage : ExitCode::ended_as_asked);
  }
  const Command& command = find_command(name);
  const auto flags = read_flags(command, version, argc - 2, argv + 2);
  if (!flags) return 0;
  if (command.make == nullptr) return lint(*flags);
  const Answer answer = command.make(*flags);
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answer_line(answer, line).dump(-1, ' ', false, Json::error_handler_t::replace)
              << std::endl;
  }
  return 0;
}

}  // namespace chorus::text_commands
