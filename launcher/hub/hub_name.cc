#include "launcher/hub/hub_name.h"

#include <fmt/format.h>

#include <algorithm>

namespace chorus::launcher {
namespace {

constexpr size_t kNameMax = 96;
constexpr size_t kFileNameMax = 1024;
constexpr size_t kFilePartMax = 255;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// One half of "org/name", by the hub's rules.
bool is_name(std::string_view text) {
  const auto allowed = [](char c) {
    return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.';
  };
  const auto edge = [](char c) { return c == '-' || c == '.'; };
  return !text.empty() && text.size() <= kNameMax &&
         std::all_of(text.begin(), text.end(), allowed) && !edge(text.front()) &&
         !edge(text.back()) && text.find("--") == std::string_view::npos &&
         text.find("..") == std::string_view::npos;
}

std::string escaped(std::string_view text, std::string_view kept) {
  std::string out;
  for (const char c : text) {
    if (is_letter_or_digit(c) || kept.find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

}  // namespace

std::optional<HubName> parse_hub_name(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string_view id = text.substr(0, colon);
  const size_t slash = std::min(id.find('/'), id.size());
  if (!is_name(id.substr(0, slash))) return std::nullopt;
  if (slash < id.size() && !is_name(id.substr(slash + 1))) return std::nullopt;
  HubName name{.id = std::string(id), .choice = {}};
  if (colon == text.size()) return name;
  name.choice = text.substr(colon + 1);
  if (!is_safe_file_name(name.choice)) return std::nullopt;
  return name;
}

bool is_commit(std::string_view revision) {
  return revision.size() == 40 && std::all_of(revision.begin(), revision.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool is_safe_file_name(std::string_view name) {
  if (name.empty() || name.size() > kFileNameMax) return false;
  const auto forbidden = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\';
  };
  if (std::any_of(name.begin(), name.end(), forbidden)) return false;
  while (true) {
    const size_t end = std::min(name.find('/'), name.size());
    const std::string_view part = name.substr(0, end);
    if (part.empty() || part == "." || part == ".." || part.size() > kFilePartMax) return false;
    if (end == name.size()) return true;
    name.remove_prefix(end + 1);
  }
}

std::string url_path(std::string_view text) {
  return escaped(text, "-_.~/");
}
std::string url_part(std::string_view text) {
  return escaped(text, "-_.~");
}

}  // namespace chorus::launcher
