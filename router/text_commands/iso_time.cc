#include <array>
#include <chrono>
#include <string>

#include "router/text_commands/command.h"

namespace chorus::text_commands {
namespace {

// Reads fixed places of a text, and knows whether all of them were there.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  int digits(size_t count) {
    int value = 0;
    for (size_t i = 0; i < count; ++i) {
      if (rest_.empty() || rest_[0] < '0' || rest_[0] > '9') {
        good_ = false;
        return 0;
      }
      value = value * 10 + (rest_[0] - '0');
      rest_.remove_prefix(1);
    }
    return value;
  }
  bool skip(std::string_view any_of) {
    if (rest_.empty() || any_of.find(rest_[0]) == std::string_view::npos) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) { good_ = skip(std::string_view(&c, 1)) && good_; }
  char next() const { return rest_.empty() ? '\0' : rest_[0]; }
  bool done() const { return good_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool good_ = true;
};

int zone_seconds(Reader& reader) {
  const char sign = reader.next();
  if (reader.skip("Zz") || !reader.skip("+-")) return 0;
  const int hours = reader.digits(2);
  reader.skip(":");
  const int minutes = reader.digits(2);
  return (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
}

}  // namespace

std::optional<int64_t> parse_iso_time(std::string_view text) {
  using namespace std::chrono;
  Reader reader(text);
  const int year_number = reader.digits(4);
  reader.expect('-');
  const auto month_number = static_cast<unsigned>(reader.digits(2));
  reader.expect('-');
  const auto day_number = static_cast<unsigned>(reader.digits(2));
  const year_month_day date{year(year_number), month(month_number), day(day_number)};
  int hour = 0, minute = 0, second = 0, zone = 0;
  if (reader.skip("T ")) {
    hour = reader.digits(2);
    reader.expect(':');
    minute = reader.digits(2);
    if (reader.skip(":")) second = reader.digits(2);
    if (reader.skip(".,")) {
      while (reader.skip("0123456789")) {
      }
    }
    zone = zone_seconds(reader);
  }
  if (!reader.done() || !date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  const int64_t days = sys_days(date).time_since_epoch().count();
  return days * 86400 + hour * 3600 + minute * 60 + second - zone;
}

}  // namespace chorus::text_commands
