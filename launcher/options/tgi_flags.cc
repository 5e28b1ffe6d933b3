// The table of TGI's flags without effect here. Two ways to treat one:
// - ignored: Chorus would serve the same without it, so a warning is enough;
// - refused: the answers or limits would differ from what was asked for. As a variable it only
//   warns, since a cluster's environment often names more than one program reads.
#include "launcher/options/tgi_flags.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>

#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

enum class Treatment { ignored, refused };
enum class Form { text, flag };

struct Row {
  std::string_view name;
  Treatment treatment = Treatment::refused;
  Form form = Form::text;
  std::string_view env = {};  // as in process::Option
};

constexpr std::array kRows = {
    Row{"cuda-graphs", Treatment::ignored},
    Row{"cuda-memory-fraction"},
    Row{"disable-custom-kernels", Treatment::ignored, Form::flag},
    Row{"disable-grammar-support", Treatment::refused, Form::flag},
    Row{"dtype"},
    Row{"enable-prefill-logprobs", Treatment::refused, Form::flag},
    Row{"env", Treatment::refused, Form::flag, "-"},  // ENV is everybody's name
    Row{"huggingface-hub-cache", Treatment::ignored},
    Row{"kv-cache-dtype"},
    Row{"lora-adapters"},
    Row{"master-addr", Treatment::ignored},
    Row{"master-port", Treatment::ignored},
    Row{"max-batch-total-tokens"},
    Row{"max-best-of"},
    Row{"max-client-batch-size"},
    Row{"max-top-n-tokens"},
    Row{"max-waiting-tokens", Treatment::ignored},
    Row{"ngrok", Treatment::refused, Form::flag},
    Row{"ngrok-authtoken"},
    Row{"ngrok-edge"},
    Row{"otlp-endpoint"},
    Row{"otlp-service-name", Treatment::ignored},
    Row{"prometheus-port", Treatment::ignored},
    Row{"quantize"},
    Row{"revision"},
    Row{"rope-factor"},
    Row{"rope-scaling"},
    Row{"shard-uds-path", Treatment::ignored},
    Row{"speculate"},
    Row{"tokenizer-config-path"},
    Row{"trust-remote-code", Treatment::ignored, Form::flag},
    Row{"usage-stats", Treatment::ignored},
    Row{"validation-workers", Treatment::ignored},
    Row{"waiting-served-ratio", Treatment::ignored},
    Row{"watermark-delta"},
    Row{"watermark-gamma"},
    Row{"weights-cache-override", Treatment::ignored},
};

process::Option option_of(const Row& row, process::Option::Target target) {
  return {.name = row.name,
          .target = target,
          .help = "TGI's, not in Chorus.",
          .env = "-",  // read by check(), which only warns
          .hidden = true};
}

std::string variable_of(const Row& row) {
  bool unused = false;
  process::Option option = option_of(row, &unused);
  option.env = row.env;
  return process::variable_of(option);
}

bool variable_set(const std::string& name) {
  const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
  return value != nullptr && *value != '\0';
}

[[noreturn]] void refuse(const std::string& what) {
  throw process::StartError(process::ExitCode::usage,
                            what + " is TGI's; Chorus does not have it yet");
}

void check_row(const Row& row, bool given, std::vector<std::string>& warnings) {
  const std::string flag = fmt::format("--{}", row.name);
  if (given && row.treatment != Treatment::ignored) refuse(flag);
  if (given) warnings.push_back(flag + " is TGI's and has no effect in Chorus");
  const std::string variable = variable_of(row);
  if (given || !variable_set(variable)) return;
  warnings.push_back("environment variable " + variable + " is TGI's and has no effect in Chorus");
}

std::string list_of(Treatment treatment) {
  std::string text;
  for (const Row& row : kRows) {
    if (row.treatment == treatment)
      text += fmt::format("{}`--{}`", text.empty() ? "" : ", ", row.name);
  }
  return text;
}

}  // namespace

TgiFlags::TgiFlags() : given_(kRows.size()) {}

std::vector<process::Option> TgiFlags::options() {
  std::vector<process::Option> options;
  for (size_t i = 0; i < kRows.size(); ++i) {
    process::Option::Target target = &given_[i].text;
    if (kRows[i].form == Form::flag) target = &given_[i].flag;
    options.push_back(option_of(kRows[i], target));
  }
  return options;
}

std::vector<std::string> TgiFlags::check() const {
  std::vector<std::string> warnings;
  for (size_t i = 0; i < kRows.size(); ++i) {
    check_row(kRows[i], given_[i].flag || given_[i].text.has_value(), warnings);
  }
  return warnings;
}

std::string tgi_flags_markdown() {
  return fmt::format(
      "\n## TGI's other flags\n\n"
      "Refused by name on the command line, since answers or limits would not be what was asked "
      "for; as environment variables they draw a warning: {}.\n\n"
      "Accepted with a warning, without effect: {}.\n",
      list_of(Treatment::refused), list_of(Treatment::ignored));
}

}  // namespace chorus::launcher
