// What a child tells the launcher, a line each, over an inherited pipe:
//   progress <fraction> <what>     ready <detail>     failed <exit code> <message>
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace chorus::process {

class StatusPipe {
 public:
  explicit StatusPipe(int fd) : fd_(fd) {}  // -1: nobody listens
  // Each writes one line (control characters become spaces); a closed pipe is not an error.
  void progress(double fraction, std::string_view what) const;
  void ready(std::string_view detail) const;
  void failed(int exit_code, std::string_view message) const;

 private:
  int fd_;
};

struct Progress {
  double fraction;
  std::string what;
};
struct Ready {
  std::string detail;
};
struct Failed {
  int exit_code;
  std::string message;
};
using Status = std::variant<Progress, Ready, Failed>;
std::optional<Status> parse_status(std::string_view line);  // nothing for a line of another form

}  // namespace chorus::process
