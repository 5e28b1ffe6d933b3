// Names on a hub: "org/name", "org/name:Q4_K_M", "org/name:folder/file.gguf", and the addresses
// made from them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace chorus::launcher {

struct HubName {
  std::string id;      // "org/name", or "gpt2"
  std::string choice;  // behind the colon: a quantisation or a file; empty: none
};

// Nothing where the text cannot be a name on a hub.
std::optional<HubName> parse_hub_name(std::string_view text);

bool is_commit(std::string_view revision);  // 40 hexadecimal digits

// A file's name inside a repository that stays inside a folder: relative, without "..", empty
// parts, backslashes or control bytes.
bool is_safe_file_name(std::string_view name);

// `text` with what is special in a URL's path as %XX; slashes stay.
std::string url_path(std::string_view text);
// The same for one part of a path: a slash is special.
std::string url_part(std::string_view text);

}  // namespace chorus::launcher
