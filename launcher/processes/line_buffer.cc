// Lines of a child's stderr, and of its status pipe.
#include "launcher/processes/line_buffer.h"

#include <algorithm>

namespace chorus::launcher {
namespace {
constexpr size_t kLineBytesMax = 65536;
}

std::string without_colours(std::string_view line) {
  std::string plain;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\x1b' || i + 1 >= line.size() || line[i + 1] != '[') {
      plain += line[i];
      continue;
    }
    i += 2;
    while (i < line.size() && (line[i] < '@' || line[i] > '~')) ++i;
  }
  return plain;
}

std::vector<std::string> LineBuffer::add(std::string_view bytes) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    const size_t room = kLineBytesMax - open_.size();
    const size_t end = bytes.find('\n');
    const bool ends = end != std::string_view::npos && end <= room;
    const size_t taken = ends ? end : std::min(bytes.size(), room);
    open_ += bytes.substr(0, taken);
    bytes.remove_prefix(ends ? taken + 1 : taken);
    if (ends || open_.size() == kLineBytesMax) complete(lines);
  }
  return lines;
}

std::vector<std::string> LineBuffer::finish() {
  std::vector<std::string> lines;
  if (!open_.empty()) complete(lines);
  return lines;
}

void LineBuffer::complete(std::vector<std::string>& lines) {
  kept_.push_back(without_colours(open_));
  if (kept_.size() > kept_max_) kept_.pop_front();
  lines.push_back(std::move(open_));
  open_.clear();
}

}  // namespace chorus::launcher
