#include "launcher/processes/progress_display.h"

#include <catch2/catch.hpp>

namespace chorus::launcher {

TEST_CASE("the bar shows the share and what is done, within the terminal's width") {
  CHECK(progress_bar(0.5, "loading", 80) == "[############            ]  50 % loading");
  CHECK(progress_bar(1, "x", 80) == "[########################] 100 % x");
  CHECK(progress_bar(0.25, "loading weights", 40).size() == 40);
}

TEST_CASE("a child's words cannot move the cursor") {
  CHECK(progress_bar(0, "a\x1b[2J\r", 80).find_first_of("\x1b\r") == std::string::npos);
}

}  // namespace chorus::launcher
