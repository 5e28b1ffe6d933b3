// How many files and connections this process may have open.
#pragma once

#include <cstdint>

namespace chorus::process {

// Raises the soft limit to the hard one, and returns the limit that holds now.
int64_t raise_descriptor_limit();

}  // namespace chorus::process
