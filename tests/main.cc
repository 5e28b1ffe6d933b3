// One main for all test programs. Tests tagged [gpu] need a device: where there is none they are
// left out and the reason is printed, so that CTest shows them as skipped, never as passed.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <filesystem>

int main(int argc, char** argv) {
  Catch::Session session;
  if (int code = session.applyCommandLine(argc, argv); code != 0) return code;
  if (!std::filesystem::exists("/dev/nvidiactl")) {
    session.configData().testsOrTags.push_back("~[gpu]");
  }
  return session.run();
}
