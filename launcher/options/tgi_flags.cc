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
  Treatment treatment;
  std::string_view reason;  // why it is not acted on, or what to do instead
  Form form = Form::text;
  std::string_view env = {};        // as in process::Option
  std::string_view cloud_env = {};  // another variable of that meaning
};

constexpr std::array kRows = {
    Row{.name = "cuda-graphs",
        .treatment = Treatment::ignored,
        .reason = "graphs are made as batches need them"},
    Row{.name = "cuda-memory-fraction",
        .treatment = Treatment::refused,
        .reason = "--kv-cache-tokens sets how much room the cache takes"},
    Row{.name = "disable-custom-kernels",
        .treatment = Treatment::ignored,
        .reason = "there are no other kernels than Chorus' own",
        .form = Form::flag},
    Row{.name = "disable-grammar-support",
        .treatment = Treatment::ignored,
        .reason = "requests for constrained output are refused as it is",
        .form = Form::flag},
    Row{.name = "enable-prefill-logprobs",
        .treatment = Treatment::ignored,
        .reason = "log-probabilities of prompts need no switch",
        .form = Form::flag},
    Row{.name = "env",
        .treatment = Treatment::refused,
        .reason = "--version says what runs",
        .form = Form::flag,
        .env = "-"},
    Row{.name = "lora-adapters",
        .treatment = Treatment::refused,
        .reason = "adapters are not applied yet"},
    Row{.name = "master-addr",
        .treatment = Treatment::ignored,
        .reason = "processes talk through inherited channels"},
    Row{.name = "master-port",
        .treatment = Treatment::ignored,
        .reason = "processes talk through inherited channels"},
    Row{.name = "max-batch-total-tokens",
        .treatment = Treatment::ignored,
        .reason = "the KV cache is sized by the memory, or by --kv-cache-tokens"},
    Row{.name = "max-client-batch-size",
        .treatment = Treatment::refused,
        .reason = "each prompt of a request counts towards --max-concurrent-requests"},
    Row{.name = "max-waiting-tokens",
        .treatment = Treatment::ignored,
        .reason = "waiting requests join the batch at every step"},
    Row{.name = "ngrok",
        .treatment = Treatment::refused,
        .reason = "tunnels are not built in",
        .form = Form::flag},
    Row{.name = "ngrok-authtoken",
        .treatment = Treatment::refused,
        .reason = "tunnels are not built in"},
    Row{.name = "ngrok-edge",
        .treatment = Treatment::refused,
        .reason = "tunnels are not built in"},
    Row{.name = "otlp-endpoint",
        .treatment = Treatment::ignored,
        .reason = "traces are not exported yet"},
    Row{.name = "otlp-service-name",
        .treatment = Treatment::ignored,
        .reason = "traces are not exported yet"},
    Row{.name = "prometheus-port",
        .treatment = Treatment::ignored,
        .reason = "/metrics is served on --port"},
    Row{.name = "rope-factor",
        .treatment = Treatment::refused,
        .reason = "the model's own configuration counts"},
    Row{.name = "rope-scaling",
        .treatment = Treatment::refused,
        .reason = "the model's own configuration counts"},
    Row{.name = "shard-uds-path",
        .treatment = Treatment::ignored,
        .reason = "processes talk through inherited channels"},
    Row{.name = "speculate",
        .treatment = Treatment::ignored,
        .reason = "there is no speculation yet; answers are the same without it"},
    Row{.name = "trust-remote-code",
        .treatment = Treatment::ignored,
        .reason = "a model's own code is never run",
        .form = Form::flag,
        .cloud_env = "HF_MODEL_TRUST_REMOTE_CODE"},
    Row{.name = "usage-stats",
        .treatment = Treatment::ignored,
        .reason = "nothing is reported to anybody"},
    Row{.name = "validation-workers",
        .treatment = Treatment::ignored,
        .reason = "requests are checked where they arrive"},
    Row{.name = "waiting-served-ratio",
        .treatment = Treatment::ignored,
        .reason = "waiting requests join the batch at every step"},
    Row{.name = "watermark-delta",
        .treatment = Treatment::ignored,
        .reason = "requests for a watermark are refused"},
    Row{.name = "watermark-gamma",
        .treatment = Treatment::ignored,
        .reason = "requests for a watermark are refused"},
    Row{.name = "weights-cache-override",
        .treatment = Treatment::refused,
        .reason = "name the weights' folder by --model-id"},
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

void check_row(const Row& row, bool given, std::vector<std::string>& warnings) {
  if (given && row.treatment == Treatment::refused) {
    throw process::StartError(
        process::ExitCode::usage,
        fmt::format("--{} is TGI's and not in Chorus: {}", row.name, row.reason));
  }
  const auto warn = [&](const std::string& what) {
    warnings.push_back(
        fmt::format("{} is TGI's and has no effect in Chorus: {}", what, row.reason));
  };
  if (given) return warn(fmt::format("--{}", row.name));
  for (const std::string& variable : {variable_of(row), std::string(row.cloud_env)}) {
    if (variable_set(variable)) warn("environment variable " + variable);
  }
}

std::string table_of(Treatment treatment) {
  std::string text = "| Flag | Why |\n|---|---|\n";
  for (const Row& row : kRows) {
    if (row.treatment == treatment) text += fmt::format("| `--{}` | {} |\n", row.name, row.reason);
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
      "for; as environment variables they draw a warning:\n\n{}\n"
      "Accepted with a warning, since answers are the same without them:\n\n{}",
      table_of(Treatment::refused), table_of(Treatment::ignored));
}

}  // namespace chorus::launcher
