// A file that is on its way: <blob>.chorus-incomplete, fetched in parts that can each be resumed.
//
// It is as long as the finished file, with holes, and behind that end stands a record of how many
// bytes of each part are there; cutting the record off finishes the file. Bytes are written before
// the record counts them, so after kill -9 the record tells at most less than there is. A power cut
// may break that order: the checksum decides in the end, as it does for a record that lies.
// Python's own "<blob>.incomplete" files are prefixes without a record and are left alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "launcher/processes/descriptor.h"

namespace chorus::launcher {

struct Part {
  int64_t begin = 0, end = 0;  // bytes of the file, end exclusive
  int64_t done = 0;            // of them, from the beginning
  bool complete() const { return begin + done == end; }
};

// Equal parts, of at least 32 MiB and at most 16 in number.
std::vector<Part> plan_parts(int64_t size);

class PartFile {
 public:
  // Goes on with what is there where its record fits the size, else begins anew. Throws StartError
  // naming the file where it cannot be written.
  PartFile(std::filesystem::path path, int64_t size);
  ~PartFile();  // records what is there
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }
  const std::vector<Part>& parts() const { return parts_; }
  int64_t done_bytes() const;
  bool complete() const { return done_bytes() == size_; }

  // The next bytes of a part, which must fit into it.
  void write(size_t part, std::string_view bytes);
  // Everything again, as one part: for servers that send whole files only, and after a wrong
  // checksum.
  void begin_anew();
  // Cuts the record off and waits for the disk. For complete files.
  void finish();

 private:
  void read_record();
  void write_record();
  void record(size_t part);
  void write_at(int64_t offset, std::string_view bytes);

  std::filesystem::path path_;
  int64_t size_;
  Descriptor fd_;
  std::vector<Part> parts_;
  std::vector<int64_t> recorded_;  // done, as the record has it
};

}  // namespace chorus::launcher
