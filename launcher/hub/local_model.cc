// Models on this machine. A mistake in the path or a cut file is told here, in one line and within
// milliseconds, instead of by several processes at once.
#include "launcher/hub/local_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "modelfile/error.h"
#include "modelfile/model.h"
#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using process::StartError;

bool looks_like_hub_id(const std::string& text) {
  return std::count(text.begin(), text.end(), '/') == 1 && text.front() != '/' &&
         text.front() != '.' && text.back() != '/' && !text.ends_with(".gguf");
}

}  // namespace

std::string check_model(const std::string& model_id) {
  std::error_code error;
  if (!std::filesystem::exists(model_id, error)) {
    const char* advice =
        looks_like_hub_id(model_id)
            ? "; Chorus cannot download from a hub yet: fetch the model first and name its folder"
            : "";
    throw StartError(ExitCode::model_missing,
                     fmt::format("--model-id {}: no such folder or file{}", model_id, advice));
  }
  try {
    return modelfile::open_model(model_id, false)->name();
  } catch (const modelfile::FileError& failure) {
    throw StartError(failure.kind() == modelfile::FileError::Kind::missing
                         ? ExitCode::model_missing
                         : ExitCode::model_corrupt,
                     failure.what());
  }
}

}  // namespace chorus::launcher
