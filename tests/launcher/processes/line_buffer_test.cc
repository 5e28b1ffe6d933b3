#include "launcher/processes/line_buffer.h"

#include <catch2/catch.hpp>

namespace chorus::launcher {

using Lines = std::vector<std::string>;

TEST_CASE("bytes become lines wherever they are cut") {
  LineBuffer buffer(3);
  CHECK(buffer.add("one\ntw") == Lines{"one"});
  CHECK(buffer.add("o\n\nthree") == Lines{"two", ""});
  CHECK(buffer.finish() == Lines{"three"});
  CHECK(buffer.finish().empty());
}

TEST_CASE("the last lines are kept, without colours") {
  LineBuffer buffer(2);
  buffer.add("a\n\x1b[31mb\x1b[0m\nc\n");
  CHECK(Lines(buffer.kept().begin(), buffer.kept().end()) == Lines{"b", "c"});
}

TEST_CASE("a line without end comes in pieces of bounded size") {
  LineBuffer buffer(2);
  const Lines lines = buffer.add(std::string(70000, 'x'));
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].size() == 65536);
  CHECK(buffer.add("\n") == Lines{std::string(70000 - 65536, 'x')});
}

}  // namespace chorus::launcher
