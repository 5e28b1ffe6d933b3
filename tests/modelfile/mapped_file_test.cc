#include "modelfile/mapped_file.h"

#include <catch2/catch.hpp>
#include <utility>

#include "modelfile/error.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/refusal.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::modelfile {

using test::refusal;
using Kind = FileError::Kind;

TEST_CASE("a mapped file shows its bytes, moved or not", "[modelfile]") {
  const test::ScratchFolder folder;
  test::save(folder.path() / "a", "hello");
  MappedFile first(folder.path() / "a");
  CHECK(first.bytes().size() == 5);
  MappedFile second(std::move(first));
  CHECK(first.bytes().empty());
  CHECK(second.bytes()[4] == std::byte{'o'});
  test::save(folder.path() / "b", "other");
  MappedFile third(folder.path() / "b");
  third = std::move(second);
  CHECK(third.bytes()[0] == std::byte{'h'});
}

TEST_CASE("an empty file maps to nothing", "[modelfile]") {
  const test::ScratchFolder folder;
  test::save(folder.path() / "empty", "");
  CHECK(MappedFile(folder.path() / "empty").bytes().empty());
}

TEST_CASE("the front of a mapped file can be kept alone", "[modelfile]") {
  const test::ScratchFolder folder;
  test::save(folder.path() / "a", std::string(100000, 'x'));
  MappedFile file(folder.path() / "a");
  file.keep_first(5000);
  CHECK(file.bytes().size() == 5000);
  CHECK(file.bytes()[4999] == std::byte{'x'});
  file.keep_first(0);
  CHECK(file.bytes().empty());
}

TEST_CASE("what cannot be mapped is refused by its path", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto missing = refusal([&] { MappedFile(folder.path() / "absent"); });
  CHECK(missing.kind == Kind::missing);
  CHECK(missing.names((folder.path() / "absent").string()));
  CHECK(refusal([&] { MappedFile(folder.path()); }).kind == Kind::unsupported);
}

}  // namespace chorus::modelfile
