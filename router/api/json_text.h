// JSON as text: written by hand where each token pays for it, read with the limits that input from
// outside needs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "router/text/chat_template.h"

namespace chorus::api {

using text::Json;  // keeps the order of keys

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);
// Shortest form that reads back equal; what JSON cannot say (infinities, NaN) becomes -9999, as
// the OpenAI API writes log probabilities of zero.
void append_json_number(std::string& out, double value);

constexpr int kJsonDepthMax = 64;

// Reads one JSON text. Refused: bytes that are not UTF-8, nesting beyond kJsonDepthMax. Integers
// that do not fit int64 are read as floating point. The last of equal keys wins. The error names
// line, column and byte.
tl::expected<Json, std::string> parse_json(std::string_view text);

}  // namespace chorus::api
