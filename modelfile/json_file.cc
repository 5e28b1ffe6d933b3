#include "modelfile/json_file.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "modelfile/error.h"
#include "modelfile/mapped_file.h"

namespace chorus::modelfile {

using nlohmann::json;

namespace {

json parse(std::string_view text, const std::string& file_name,
           const json::parser_callback_t& seen) {
  try {
    return json::parse(text, seen);
  } catch (const json::parse_error& error) {
    throw FileError(FileError::Kind::corrupt, file_name + ", byte " + std::to_string(error.byte) +
                                                  ": not valid JSON (" + error.what() + ")");
  } catch (const json::out_of_range& error) {  // a number that no double holds
    throw FileError(FileError::Kind::corrupt,
                    file_name + ": not valid JSON (" + error.what() + ")");
  }
}

// Nothing where the value is no integer of 64 bits with a sign.
std::optional<int64_t> integer_of(const json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  return std::nullopt;
}

}  // namespace

JsonFile::JsonFile(std::unique_ptr<json> root, std::string file_name)
    : name_(std::move(file_name)), root_(std::move(root)) {
  if (!root_->is_object()) {
    throw FileError(FileError::Kind::corrupt, name_ + ": an object is expected at the top");
  }
}

JsonFile::JsonFile(std::string_view text, std::string file_name)
    : JsonFile(std::make_unique<json>(parse(text, file_name, nullptr)), file_name) {}

JsonFile JsonFile::with_unique_keys(std::string_view text, std::string file_name) {
  std::set<std::string> keys;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 &&
        !keys.insert(parsed.get<std::string>()).second) {
      throw FileError(FileError::Kind::corrupt,
                      file_name + ": key " + parsed.get<std::string>() + " comes twice");
    }
    return true;
  };
  return {std::make_unique<json>(parse(text, file_name, check)), file_name};
}

JsonFile JsonFile::read(const std::filesystem::path& path) {
  const MappedFile file(path);
  return {as_text(file.bytes()), path.string()};
}

JsonFile JsonFile::converted(json root, std::string file_name) {
  return JsonFile(std::make_unique<json>(std::move(root)), std::move(file_name));
}

std::optional<JsonFile> JsonFile::read_if_present(const std::filesystem::path& path) {
  if (!file_exists(path)) return std::nullopt;
  return read(path);
}

JsonFile::JsonFile(JsonFile&&) noexcept = default;
JsonFile& JsonFile::operator=(JsonFile&&) noexcept = default;
JsonFile::~JsonFile() = default;

const json* JsonFile::find(std::string_view key) const {
  const json* value = root_.get();
  while (true) {
    const size_t dot = key.find('.');
    if (!value->is_object()) return nullptr;
    const auto member = value->find(std::string(key.substr(0, dot)));
    if (member == value->end() || member->is_null()) return nullptr;
    value = &*member;
    if (dot == std::string_view::npos) return value;
    key.remove_prefix(dot + 1);
  }
}

void JsonFile::corrupt(std::string_view key, std::string_view problem) const {
  throw FileError(FileError::Kind::corrupt,
                  name_ + ": key " + std::string(key) + " " + std::string(problem));
}

std::optional<int64_t> JsonFile::find_integer(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto integer = integer_of(*value);
  if (!integer) corrupt(key, "is not an integer");
  return integer;
}

std::optional<double> JsonFile::find_number(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) corrupt(key, "is not a number");
  return value->get<double>();
}

std::optional<bool> JsonFile::find_flag(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) corrupt(key, "is neither true nor false");
  return value->get<bool>();
}

std::optional<std::string> JsonFile::find_text(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) corrupt(key, "is not a string");
  return value->get<std::string>();
}

std::vector<std::string> JsonFile::find_texts(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) corrupt(key, "is not a list of strings");
  std::vector<std::string> texts;
  for (const json& element : *value) {
    if (!element.is_string()) corrupt(key, "is not a list of strings");
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

std::vector<int64_t> JsonFile::find_integers(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return {};
  std::vector<int64_t> integers;
  const auto take = [&](const json& element) {
    const auto integer = integer_of(element);
    if (!integer) corrupt(key, "is not an integer or a list of integers");
    integers.push_back(*integer);
  };
  if (value->is_array()) {
    for (const json& element : *value) take(element);
  } else {
    take(*value);
  }
  return integers;
}

std::vector<double> JsonFile::find_numbers(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return {};
  std::vector<double> numbers;
  if (!value->is_array()) corrupt(key, "is not a list of numbers");
  for (const json& element : *value) {
    if (!element.is_number()) corrupt(key, "is not a list of numbers");
    numbers.push_back(element.get<double>());
  }
  return numbers;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool file_exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

}  // namespace chorus::modelfile
