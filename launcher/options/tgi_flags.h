// TGI's flags that Chorus does not act on: the ones that are safe to ignore, and the ones that
// somebody who gives them must not believe to be in force.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "process/options.h"

namespace chorus::launcher {

// What was given of them; filled by the rows of options().
class TgiFlags {
 public:
  TgiFlags();
  // Hidden rows for the options table, pointing into this object.
  std::vector<process::Option> options();
  // Throws StartError(usage) for a flag that is refused; returns a warning for each other one that
  // was given, and for each variable that is set.
  std::vector<std::string> check() const;

 private:
  struct Given {
    bool flag = false;
    std::optional<std::string> text;
  };
  std::vector<Given> given_;  // in the order of the table; never resized
};

// The section of docs/flags.md on these flags.
std::string tgi_flags_markdown();

}  // namespace chorus::launcher
