// How far the start has come: on a terminal one line that is redrawn, elsewhere a line of the log
// for every tenth.
#pragma once

#include <string>
#include <string_view>

namespace chorus::launcher {

class ProgressDisplay {
 public:
  explicit ProgressDisplay(bool terminal) : terminal_(terminal) {}
  void show(double fraction, std::string_view what);
  void hide();  // before anything else is written to the terminal

 private:
  bool terminal_;
  bool shown_ = false;
  int tenths_ = 0;
  std::string line_;  // as drawn last
};

// "[#######             ]  35 % loading weights", at most `columns` wide.
std::string progress_bar(double fraction, std::string_view what, size_t columns);

}  // namespace chorus::launcher
