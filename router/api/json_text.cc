// The writer escapes runs at a time, since most text needs no escape. The reader builds the
// document itself from nlohmann's events: its own builder looks each key up in a list (ordered
// objects are vectors), which a body of many keys turns into minutes.
#include "router/api/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

namespace chorus::api {
namespace {

// The length of the UTF-8 character at the start of `text`; 0 where there is none (overlong forms,
// surrogates, cut sequences, stray bytes).
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (first == 0xE0 && byte(1) < 0xA0) return 0;
  if (first == 0xED && byte(1) > 0x9F) return 0;
  if (first == 0xF0 && byte(1) < 0x90) return 0;
  if (first == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

void append_escape(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default: {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\u00";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[c & 15];
    }
  }
}

class Builder {
 public:
  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  // Integers that do not fit become floating point, which no integer field takes: its error then
  // names the field.
  bool number_unsigned(uint64_t value) {
    if (value > INT64_MAX) return add(static_cast<double>(value));
    return add(static_cast<int64_t>(value));
  }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return fail("binary data is not JSON"); }

  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool key(std::string& value) {
    keys_.back() = std::move(value);
    return true;
  }
  bool end_object() {
    drop_earlier_duplicates(open_.back().get_ref<Json::object_t&>());
    return close();
  }
  bool end_array() { return close(); }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) {
    position_ = position;
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...;
    // last read: '...'": what was read last may hold anything, and where is told our way.
    std::string_view reason = error.what();
    if (size_t at = reason.find("; last read"); at != reason.npos) reason = reason.substr(0, at);
    if (size_t at = reason.find(": "); at != reason.npos) reason = reason.substr(at + 2);
    if (size_t at = reason.find("] "); reason.starts_with('[') && at != reason.npos) {
      reason = reason.substr(at + 2);
    }
    error_ = reason;
    return false;
  }

  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  size_t position() const { return position_; }
  Json& root() { return root_; }

 private:
  bool fail(std::string why) {
    error_ = std::move(why);
    return false;
  }

  bool open(Json container) {
    if (open_.size() >= kJsonDepthMax) {
      return fail(fmt::format("nested deeper than {} levels", kJsonDepthMax));
    }
    open_.push_back(std::move(container));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    Json done = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return add(std::move(done));
  }

  bool add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_array()) {
      open_.back().get_ref<Json::array_t&>().push_back(std::move(value));
    } else {
      open_.back().get_ref<Json::object_t&>().emplace_back(std::move(keys_.back()),
                                                           std::move(value));
    }
    return true;
  }

  static void drop_earlier_duplicates(Json::object_t& object) {
    std::unordered_set<std::string_view> seen;
    for (const auto& [key, value] : object) seen.insert(key);
    if (seen.size() == object.size()) return;
    seen.clear();
    std::vector<size_t> kept;
    for (size_t i = object.size(); i-- > 0;) {
      if (seen.insert((object.begin() + static_cast<std::ptrdiff_t>(i))->first).second) {
        kept.push_back(i);
      }
    }
    Json::object_t unique;
    for (size_t i = kept.size(); i-- > 0;) {
      auto& [key, value] = *(object.begin() + static_cast<std::ptrdiff_t>(kept[i]));
      unique.emplace_back(key, std::move(value));
    }
    object = std::move(unique);
  }

  Json root_;
  std::vector<Json> open_;         // containers that are not closed yet, outermost first
  std::vector<std::string> keys_;  // one for each: the key its next value belongs to
  std::string error_;
  size_t position_ = 0;
};

std::string locate(std::string_view text, size_t position, const std::string& why) {
  const std::string_view before =
      text.substr(0, std::min(position > 0 ? position - 1 : 0, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
  return fmt::format("the body is not valid JSON: line {}, column {} (byte {}): {}", line,
                     before.size() - line_start + 1, before.size(), why);
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  size_t run = 0;  // bytes at the start of `text` that are copied as they are
  const auto flush = [&](size_t skipped) {
    out.append(text.substr(0, run));
    text.remove_prefix(run + skipped);
    run = 0;
  };
  while (run < text.size()) {
    const auto c = static_cast<unsigned char>(text[run]);
    if (c >= 0x80) {
      const size_t length = character_bytes(text.substr(run));
      if (length > 0) {
        run += length;
        continue;
      }
      flush(1);
      out += "\xEF\xBF\xBD";
    } else if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F) {
      flush(1);
      append_escape(out, static_cast<char>(c));
    } else {
      ++run;
    }
  }
  out.append(text);
  out += '"';
}

void append_json_number(std::string& out, double value) {
  if (!std::isfinite(value)) value = -9999;
  fmt::format_to(std::back_inserter(out), "{}", value);
}

tl::expected<Json, std::string> parse_json(std::string_view text) {
  Builder builder;
  const bool read = Json::sax_parse(text.begin(), text.end(), &builder);
  if (read) return std::move(builder.root());
  if (builder.position() > 0) {
    return tl::unexpected(locate(text, builder.position(), builder.error()));
  }
  return tl::unexpected("the body is refused: " + builder.error());
}

}  // namespace chorus::api
