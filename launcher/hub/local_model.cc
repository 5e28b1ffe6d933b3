// A mistake in the path or a cut file is told here, in one line and within milliseconds, instead of
// by several processes at once.
#include "launcher/hub/local_model.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>

#include "launcher/hub/hub_model.h"
#include "modelfile/error.h"
#include "modelfile/model.h"
#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

namespace fs = std::filesystem;
using process::ExitCode;
using process::StartError;

// The file's or folder's name, never a path of this machine.
std::string name_of_path(const std::string& model_id) {
  fs::path path = fs::weakly_canonical(model_id);
  if (!path.has_filename()) path = path.parent_path();
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

FoundModel find_local(const ModelWish& wish) {
  if (wish.revision) {
    process::log_warn("--revision {} has no effect: --model-id {} is a path", *wish.revision,
                      wish.model_id);
  }
  return {.path = wish.model_id,
          .served_name = wish.served_name.value_or(name_of_path(wish.model_id)),
          .commit = {}};
}

}  // namespace

FoundModel find_model(const ModelWish& wish) {
  std::error_code error;
  if (fs::exists(wish.model_id, error)) return find_local(wish);
  const auto name = parse_hub_name(wish.model_id);
  if (!name || (name->choice.empty() && wish.model_id.ends_with(".gguf"))) {
    throw StartError(ExitCode::model_missing,
                     fmt::format("--model-id {}: no such folder or file", wish.model_id));
  }
  const std::string revision = wish.revision.value_or("main");
  if (!is_safe_file_name(revision)) {
    throw StartError(ExitCode::usage, fmt::format("--revision: '{}' cannot be one", revision));
  }
  HubModel model = find_on_hub(read_hub_settings(wish.cache), *name, revision);
  return {.path = std::move(model.path),
          .served_name = wish.served_name.value_or(wish.model_id),
          .commit = std::move(model.commit)};
}

std::string check_model(const std::string& path) {
  try {
    return modelfile::open_model(path, false)->name();
  } catch (const modelfile::FileError& failure) {
    throw StartError(failure.kind() == modelfile::FileError::Kind::missing
                         ? ExitCode::model_missing
                         : ExitCode::model_corrupt,
                     failure.what());
  }
}

}  // namespace chorus::launcher
