// The look-ups without a default.
#include <optional>
#include <string>

#include "modelfile/error.h"
#include "modelfile/model.h"

namespace chorus::modelfile {
namespace {

template <class T>
T required(const Config& config, const std::optional<T>& value, std::string_view hf,
           std::string_view gguf) {
  if (value) return *value;
  std::string key(config.format() == Format::gguf ? gguf : hf);
  if (key.starts_with('.')) key = config.architecture() + key;
  throw FileError(FileError::Kind::corrupt, config.source() + ": key " + key + " is missing");
}

}  // namespace

std::string Config::source() const {
  return "the model's configuration";
}

int64_t Config::integer(std::string_view hf, std::string_view gguf) const {
  return required(*this, find_integer(hf, gguf), hf, gguf);
}

double Config::number(std::string_view hf, std::string_view gguf) const {
  return required(*this, find_number(hf, gguf), hf, gguf);
}

}  // namespace chorus::modelfile
