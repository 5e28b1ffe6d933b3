// Cuts a stream of bytes into lines and remembers the last ones.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::launcher {

class LineBuffer {
 public:
  explicit LineBuffer(size_t kept_max) : kept_max_(kept_max) {}
  // The lines that these bytes complete, without their ends. A line longer than 64 KiB comes in
  // pieces.
  std::vector<std::string> add(std::string_view bytes);
  // At the end of the stream: a last line without its end.
  std::vector<std::string> finish();
  // The last lines, oldest first, without colours.
  const std::deque<std::string>& kept() const { return kept_; }

 private:
  void complete(std::vector<std::string>& lines);

  size_t kept_max_;
  std::string open_;  // bytes behind the last line's end
  std::deque<std::string> kept_;
};

// `line` without terminal sequences (ESC [ ... letter).
std::string without_colours(std::string_view line);

}  // namespace chorus::launcher
