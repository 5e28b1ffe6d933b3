// What goes wrong with a model's files. The text names the file, the place in it and the reason.
#pragma once

#include <stdexcept>
#include <string>

namespace chorus::modelfile {

class FileError : public std::runtime_error {
 public:
  enum class Kind { missing, corrupt, unsupported };
  FileError(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

}  // namespace chorus::modelfile
