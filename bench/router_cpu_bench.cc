// What the router costs: its processor time, user and system, per token and per request, with a
// mock shard behind it (bench/mock_shard.cc) and this program as its clients. The clients, the
// shard and the kernel's work for them are other processes' time and not counted.
//
//     router_cpu_bench --model-id FILE.gguf [--rounds 5] [--step-us 0] [--only PART] [--json FILE]
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/http_load.h"
#include "launcher/processes/channels.h"
#include "launcher/processes/spawn.h"
#include "process/exit_codes.h"
#include "process/options.h"

namespace {

using namespace chorus;
using bench::Load;
using bench::LoadResult;
using Json = nlohmann::ordered_json;

struct Options {
  std::string model_id, only, json, log = "/dev/null", programs;
  int64_t rounds = 5, step_us = 0, token_us = 0, port = 3977, http_threads = 2;
};

bool parse(Options& o, int argc, char** argv) {
  o.programs = std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  const process::Option table[] = {
      {.name = "model-id", .target = &o.model_id, .help = "whose text side is used", .env = "-"},
      {.name = "rounds", .target = &o.rounds, .help = "of each part", .min = 1, .env = "-"},
      {.name = "step-us", .target = &o.step_us, .help = "latency of a step", .env = "-"},
      {.name = "token-us", .target = &o.token_us, .help = "and of each token", .env = "-"},
      {.name = "only", .target = &o.only, .help = "parts whose name has this in it", .env = "-"},
      {.name = "json", .target = &o.json, .help = "also write the figures here", .env = "-"},
      {.name = "log", .target = &o.log, .help = "where router and shard log to", .env = "-"},
      {.name = "programs", .target = &o.programs, .help = "folder of the programs", .env = "-"},
      {.name = "port", .target = &o.port, .help = "for the router", .env = "-"},
      {.name = "http-threads", .target = &o.http_threads, .help = "of the router", .env = "-"},
  };
  const process::Program program{"router_cpu_bench", "Measures the router's processor time.", "0"};
  if (!process::parse_options(program, table, argc, argv)) return false;
  if (o.model_id.empty()) {
    throw process::StartError(process::ExitCode::usage, "--model-id is missing");
  }
  return true;
}

// Router and mock shard, as the launcher starts them.
class Group {
 public:
  explicit Group(const Options& o) : port_(static_cast<int>(o.port)) {
    launcher::Ends channel = launcher::make_socket_pair();
    const launcher::Descriptor log(
        open(o.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    const auto start = [&](const char* program, int fd, std::vector<std::string> arguments) {
      for (std::string argument :
           {std::string("--model-id"), o.model_id, std::string("--channel-fd"), std::to_string(fd),
            std::string("--max-batch-prefill-tokens"), std::string("512")}) {
        arguments.push_back(std::move(argument));
      }
      return launcher::spawn({.program = o.programs + "/" + program, .arguments = arguments},
                             {.descriptors = {fd}, .output = log.get()});
    };
    shard_ = start("chorus-mock-shard", channel.read.get(),
                   {"--step-us", std::to_string(o.step_us), "--token-us",
                    std::to_string(o.token_us), "--max-batch-size", "1024"});
    router_ = start("chorus-router", channel.write.get(),
                    {"--hostname", "127.0.0.1", "--port", std::to_string(port_), "--http-threads",
                     std::to_string(o.http_threads), "--max-concurrent-requests", "4096"});
    wait_until_ready();
  }
  ~Group() {
    for (const int pid : {router_, shard_}) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int port() const { return port_; }

  double router_cpu_us() const {
    clockid_t clock = 0;
    timespec time{};
    if (clock_getcpuclockid(router_, &clock) != 0 || clock_gettime(clock, &time) != 0) {
      throw std::runtime_error("the router is gone");
    }
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
  }

  double router_kib() const {  // resident
    std::ifstream status(fmt::format("/proc/{}/status", router_));
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmRSS:")) return std::stod(line.substr(6));
    }
    throw std::runtime_error("the router is gone");
  }

 private:
  void wait_until_ready() const {
    for (int tries = 0; tries < 2000; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      router_cpu_us();
      try {
        if (bench::get(port_, "/health").starts_with("HTTP/1.1 200")) return;
      } catch (const std::runtime_error&) {  // the port is not bound yet
      }
    }
    throw std::runtime_error("the router does not become ready");
  }

  const int port_;
  int shard_ = 0, router_ = 0;
};

std::string chat(const std::string& content, int max_tokens, bool stream) {
  return Json({{"model", "bench"},
               {"messages", {{{"role", "user"}, {"content", content}}}},
               {"max_tokens", max_tokens},
               {"temperature", 0},
               {"stream", stream}})
      .dump();
}

std::string words(int count) {
  constexpr std::string_view kWords[] = {"river",  "stone", "cloud",  "window", "garden",
                                         "letter", "music", "winter", "bridge", "morning"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += kWords[(i * 7 + i / 10) % 10];
    text += i % 12 == 11 ? ".\n" : " ";
  }
  return text;
}

struct Part {
  const char* name;
  const char* per;  // what the figure counts
  double units;     // of these in an answer
  Load load;
  double bar;  // microseconds; 0: none
};

std::vector<Part> parts() {
  const std::string question = "What is the capital of France?";
  const auto streams = [&](int count, int tokens) {
    return Load{
        .connections = count, .requests = 1, .body = chat(question, tokens, true), .stream = true};
  };
  const auto chats = [&](int connections, int requests, int tokens, bool keep_alive) {
    return Load{.connections = connections,
                .requests = requests,
                .keep_alive = keep_alive,
                .body = chat(question, tokens, false)};
  };
  return {
      {"1 stream", "token", 4000, streams(1, 4000), 100},
      {"64 streams", "token", 512, streams(64, 512), 8},
      {"256 streams", "token", 256, streams(256, 256), 0},
      {"short chats, 1 token, 1 connection", "request", 1, chats(1, 2000, 1, true), 250},
      {"short chats, 1 token, 1 new connection each", "request", 1, chats(1, 1000, 1, false), 0},
      {"short chats, 16 tokens, 16 connections", "request", 1, chats(16, 200, 16, true), 250},
      {"prompt of 3,000 words",
       "word",
       3000,
       {.connections = 1, .requests = 20, .body = chat(words(3000), 1, false)},
       0},
  };
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

Json measure(const Group& group, const Part& part, int64_t rounds) {
  std::vector<double> costs, rates, first, between;
  bench::run_load(group.port(), part.load);  // warm-up
  for (int64_t round = 0; round < rounds; ++round) {
    const double before = group.router_cpu_us();
    LoadResult result = bench::run_load(group.port(), part.load);
    const double units = part.units * static_cast<double>(result.answers);
    costs.push_back((group.router_cpu_us() - before) / units);
    rates.push_back(units / result.seconds);
    first.insert(first.end(), result.first_ms.begin(), result.first_ms.end());
    between.insert(between.end(), result.between_ms.begin(), result.between_ms.end());
  }
  Json figures = {{"us", median(costs)}, {"per", part.per}, {"per_second", median(rates)}};
  fmt::print("{:45} {:8.2f} us per {:8}{:12.0f} /s", part.name, median(costs), part.per,
             median(rates));
  if (part.load.stream) {
    figures["first_ms"] = {{"p50", quantile(first, 0.5)}, {"p99", quantile(first, 0.99)}};
    figures["between_ms"] = {{"p50", quantile(between, 0.5)}, {"p99", quantile(between, 0.99)}};
    fmt::print("  first {:.2f} / {:.2f} ms, between tokens {:.2f} / {:.2f} ms (p50 / p99)",
               quantile(first, 0.5), quantile(first, 0.99), quantile(between, 0.5),
               quantile(between, 0.99));
  }
  if (part.bar > 0) {
    figures["bar_us"] = part.bar;
    fmt::print("  {} the bar of {}", median(costs) <= part.bar ? "within" : "OVER", part.bar);
  }
  fmt::print("\n");
  std::fflush(stdout);
  figures["samples_us"] = costs;
  return figures;
}

Json measure_idle(const Group& group) {
  constexpr int kConnections = 1000;
  const double before_kib = group.router_kib();
  const std::vector<int> connections = bench::connect_idle(group.port(), kConnections);
  bench::get(group.port(), "/health");
  const double kib = (group.router_kib() - before_kib) / kConnections;
  const double before_us = group.router_cpu_us();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const double idle_us = group.router_cpu_us() - before_us;
  for (const int fd : connections) close(fd);
  fmt::print("{:45} {:8.2f} KiB each, {:.0f} us of processor time a second in all\n",
             "1,000 idle connections", kib, idle_us);
  return {{"kib_each", kib}, {"us_per_second", idle_us}};
}

Json machine() {
  utsname system{};
  uname(&system);
  std::ifstream cpus("/proc/cpuinfo");
  std::string model = "unknown";
  for (std::string line; std::getline(cpus, line);) {
    if (!line.starts_with("model name")) continue;
    model = line.substr(line.find(':') + 2);
    break;
  }
  char date[32] = {};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%MZ", gmtime_r(&now, &utc));
  return {{"cpu", model},
          {"cores", std::thread::hardware_concurrency()},
          {"kernel", system.release},
          {"date", date}};
}

void run(const Options& o) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);  // the router inherits it
  Group group(o);
  Json report = {
      {"machine", machine()},   {"model", std::filesystem::path(o.model_id).filename().string()},
      {"rounds", o.rounds},     {"step_us", o.step_us},
      {"token_us", o.token_us}, {"http_threads", o.http_threads}};
  // First, while the heap has no room left over from other parts.
  if (o.only.empty() || o.only == "idle") report["figures"]["idle"] = measure_idle(group);
  for (const Part& part : parts()) {
    if (std::string(part.name).find(o.only) == std::string::npos) continue;
    report["figures"][part.name] = measure(group, part, o.rounds);
  }
  if (!o.json.empty()) std::ofstream(o.json) << report.dump(1) << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  try {
    if (!parse(o, argc, argv)) return 0;
    run(o);
    return 0;
  } catch (const process::StartError& error) {
    std::fputs(fmt::format("router_cpu_bench: {}\n", error.what()).c_str(), stderr);
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fputs(fmt::format("router_cpu_bench: {}\n", error.what()).c_str(), stderr);
    return 70;
  }
}
