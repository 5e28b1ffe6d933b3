#include "process/status_pipe.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

namespace chorus::process {
namespace {

struct Pipe {
  Pipe() { REQUIRE(pipe(ends) == 0); }
  ~Pipe() {
    close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
  }
  std::string drain() {
    close(ends[1]);
    ends[1] = -1;
    std::string text(10000, '\0');
    const ssize_t size = read(ends[0], text.data(), text.size());
    text.resize(static_cast<size_t>(size));
    return text;
  }
  int ends[2];
};

}  // namespace

TEST_CASE("what a child tells is read back as it was told") {
  Pipe pipe;
  const StatusPipe status(pipe.ends[1]);
  status.progress(0.25, "reading weights");
  status.ready("127.0.0.1:3000");
  status.failed(69, "port 80\nis taken");
  const std::string text = pipe.drain();
  CHECK(text ==
        "progress 0.2500 reading weights\nready 127.0.0.1:3000\nfailed 69 port 80 is taken\n");

  const auto progress = parse_status("progress 0.2500 reading weights");
  REQUIRE(progress);
  CHECK(std::get<Progress>(*progress).fraction == 0.25);
  CHECK(std::get<Progress>(*progress).what == "reading weights");
  CHECK(std::get<Ready>(*parse_status("ready 127.0.0.1:3000")).detail == "127.0.0.1:3000");
  CHECK(std::get<Ready>(*parse_status("ready")).detail.empty());
  const auto failed = parse_status("failed 69 port 80 is taken");
  CHECK(std::get<Failed>(*failed).exit_code == 69);
  CHECK(std::get<Failed>(*failed).message == "port 80 is taken");
}

TEST_CASE("lines of another form are nothing") {
  for (const char* line : {"", "hello", "progress", "progress x y", "progress nan y", "failed",
                           "failed 0 fine", "failed 256 x", "failed x y", "readyish"}) {
    INFO(line);
    CHECK_FALSE(parse_status(line));
  }
}

TEST_CASE("a fraction outside 0 to 1 is brought inside") {
  CHECK(std::get<Progress>(*parse_status("progress 7 x")).fraction == 1.0);
  CHECK(std::get<Progress>(*parse_status("progress -1 x")).fraction == 0.0);
}

TEST_CASE("a pipe whose reader is gone raises neither error nor signal") {
  Pipe pipe;
  close(pipe.ends[0]);
  StatusPipe(pipe.ends[1]).ready("nobody reads this");
  sigset_t pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 0);
  StatusPipe(-1).ready("nor this");
}

TEST_CASE("a long message arrives as one line of at most PIPE_BUF bytes") {
  Pipe pipe;
  StatusPipe(pipe.ends[1]).failed(70, std::string(9000, 'x'));
  const std::string text = pipe.drain();
  CHECK(text.size() == 4096);
  CHECK(text.back() == '\n');
}

}  // namespace chorus::process
