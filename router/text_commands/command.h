// A command of chorus-router text: what a line asks, and what it is answered with.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "router/text/chat_template.h"
#include "router/text/tokenizer.h"

namespace chorus::text_commands {

using text::Json;

struct Flags {
  std::string model_id, template_file;
  std::optional<int64_t> now;  // seconds since 1970 UTC
};

// The answer to one line, {"error": ...} where it fails.
using Answer = std::function<Json(const Json& request)>;

Answer make_tokenize(const Flags& flags);
Answer make_detokenize(const Flags& flags);
Answer make_stop(const Flags& flags);
Answer make_render(const Flags& flags);

// Prints one line per template and one for the tokenizer; the exit code says whether all are sound.
int lint(const Flags& flags);

// "2025-07-27", "2025-07-27T11:30:45", with Z or +02:00; without a zone it is UTC. Nothing where it
// is none of these.
std::optional<int64_t> parse_iso_time(std::string_view text);

inline Json failed(std::string_view message) {
  return {{"error", message}};
}

// Fields of a request; the error names the field.
template <class T>
using Field = tl::expected<T, std::string>;
Field<std::string> text_field(const Json& request, const char* name);
Field<bool> flag_field(const Json& request, const char* name, bool otherwise);
Field<std::vector<std::string>> texts_field(const Json& request, const char* name);  // or one text
Field<std::vector<int32_t>> ids_field(const Json& request, const char* name);

}  // namespace chorus::text_commands
