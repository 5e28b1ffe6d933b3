#include "router/api/json_text.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace chorus {
namespace {

std::string as_json(std::string_view text) {
  std::string out;
  api::append_json_string(out, text);
  return out;
}

TEST_CASE("a string is written so that any reader gets it back") {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xE2\x80\xA8";
  const std::string written = as_json(all);
  CHECK(nlohmann::json::parse(written).get<std::string>() == all);
  for (char c : written) CHECK(static_cast<unsigned char>(c) >= 0x20);
}

TEST_CASE("bytes that are not UTF-8 are written as replacement characters") {
  const std::string mark = "\xEF\xBF\xBD";
  CHECK(as_json("a\xFFz") == "\"a" + mark + "z\"");
  CHECK(as_json("\xC3") == "\"" + mark + "\"");
  CHECK(as_json("\xC0\x80") == "\"" + mark + mark + "\"");
  CHECK(as_json("\xED\xA0\x80") == "\"" + mark + mark + mark + "\"");
  CHECK(as_json("\xF4\x90\x80\x80") == "\"" + mark + mark + mark + mark + "\"");
}

TEST_CASE("numbers are written in the shortest form, and never as something JSON has not") {
  const auto number = [](double value) {
    std::string out;
    api::append_json_number(out, value);
    return out;
  };
  CHECK(std::stod(number(-0.1234567890123)) == -0.1234567890123);
  CHECK(number(-0.5) == "-0.5");
  CHECK(number(-std::numeric_limits<double>::infinity()) == "-9999");
  CHECK(number(std::nan("")) == "-9999");
}

}  // namespace
}  // namespace chorus
