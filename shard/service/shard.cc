#include "shard/service/shard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <stdexcept>
#include <variant>

#include "process/log.h"
#include "proto/chorus/v1/shard.grpc.pb.h"
#include "shard/service/messages.h"

namespace chorus::service {
namespace {

using Clock = std::chrono::steady_clock;
using Stream = grpc::ServerReaderWriter<v1::FromShard, v1::ToShard>;

// Plans of long prompts and block tables, with room to spare.
constexpr int kMessageBytesMax = 64 << 20;

struct WarmupJob {
  int64_t kv_tokens = 0;
  std::promise<std::vector<int64_t>>* blocks = nullptr;
};
struct PlanJob {
  v1::ToShard message;
  Stream* stream = nullptr;
};
struct StopJob {};
using Job = std::variant<WarmupJob, PlanJob, StopJob>;

class JobQueue {
 public:
  void push(Job job) {
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_one();
  }
  Job pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !jobs_.empty(); });
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    return job;
  }
  void drop_plans() {  // of a stream that has ended
    std::lock_guard lock(mutex_);
    std::erase_if(jobs_, [](const Job& job) { return std::holds_alternative<PlanJob>(job); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
};

// What rank 0 hands to the others: a Warmup or the router's message, told apart by the first byte.
enum class Handover : char { warmup = 'w', message = 'm' };

void hand_over(comm::Communicator& communicator, Handover kind,
               const google::protobuf::MessageLite& message) {
  if (communicator.ranks() == 1) return;
  std::string bytes(1, static_cast<char>(kind));
  message.AppendToString(&bytes);
  communicator.publish(std::as_bytes(std::span(bytes)));
}

step::StepResult execute(step::Execution& execution, const v1::ToShard& message) {
  if (!message.has_step()) throw std::runtime_error("masks are not executed by this shard yet");
  auto plan = read_step(message.step());
  if (!plan) throw std::runtime_error(plan.error());
  auto result = execution.execute(*plan);
  if (!result) throw std::runtime_error(result.error());
  return std::move(*result);
}

class Server final : public Shard, private v1::Shard::Service {
 public:
  Server(int channel_fd, const LoadState& load) : load_(load) {
    fcntl(channel_fd, F_SETFL, fcntl(channel_fd, F_GETFL) | O_NONBLOCK);
    grpc::ServerBuilder builder;
    builder.RegisterService(this);
    builder.SetMaxReceiveMessageSize(kMessageBytesMax);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // a ping a message, for networks
    builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    server_ = builder.BuildAndStart();
    if (!server_) throw std::runtime_error("the gRPC server does not start");
    grpc::AddInsecureChannelFromFd(server_.get(), channel_fd);
  }

  ~Server() override {
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  }

  void serve(step::Execution& execution, comm::Communicator& communicator,
             const v1::InfoResponse& info) override {
    info_.set_value(info);
    while (true) {
      Job job = jobs_.pop();
      if (std::holds_alternative<StopJob>(job)) return;
      if (auto* warmup = std::get_if<WarmupJob>(&job)) {
        v1::WarmupRequest request;
        request.set_kv_tokens(warmup->kv_tokens);
        hand_over(communicator, Handover::warmup, request);
        try {
          warmup->blocks->set_value(execution.allocate_kv(warmup->kv_tokens));
        } catch (const step::NotEnoughMemory&) {  // the router is told, and ends the start
          warmup->blocks->set_exception(std::current_exception());
        }
      } else {
        run_plan(execution, communicator, std::get<PlanJob>(job));
      }
    }
  }

  void stop() override { jobs_.push(StopJob{}); }

 private:
  void run_plan(step::Execution& execution, comm::Communicator& communicator, PlanJob& job) {
    hand_over(communicator, Handover::message, job.message);
    v1::FromShard answer;
    const auto result = execute(execution, job.message);
    write_result(result, *answer.mutable_result());
    last_step_ = result.number;
    last_step_at_ = Clock::now().time_since_epoch().count();
    std::lock_guard lock(stream_mutex_);
    if (stream_ == job.stream) stream_->Write(answer);
  }

  grpc::Status Info(grpc::ServerContext* context, const v1::InfoRequest*,
                    v1::InfoResponse* response) override {
    if (info_ready_.wait_until(context->deadline()) != std::future_status::ready) {
      return {grpc::StatusCode::UNAVAILABLE, "the model is still loading"};
    }
    *response = info_ready_.get();
    return grpc::Status::OK;
  }

  grpc::Status Health(grpc::ServerContext*, const v1::HealthRequest*,
                      v1::HealthResponse* response) override {
    response->set_loaded(load_.loaded);
    response->set_load_fraction(load_.fraction);
    response->set_load_stage(load_.loaded ? "loaded" : "loading weights");
    response->set_last_step(last_step_);
    if (last_step_ > 0) {
      const Clock::time_point at{Clock::duration(last_step_at_.load())};
      response->set_last_step_age_ms(
          std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - at).count());
    }
    return grpc::Status::OK;
  }

  grpc::Status Warmup(grpc::ServerContext*, const v1::WarmupRequest* request,
                      v1::WarmupResponse* response) override {
    if (warmed_up_.exchange(true)) {
      return {grpc::StatusCode::FAILED_PRECONDITION, "the KV cache is allocated already"};
    }
    std::promise<std::vector<int64_t>> blocks;
    jobs_.push(WarmupJob{request->kv_tokens(), &blocks});
    try {
      for (int64_t count : blocks.get_future().get()) response->add_blocks(count);
    } catch (const step::NotEnoughMemory& error) {
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, error.what()};
    }
    return grpc::Status::OK;
  }

  grpc::Status Run(grpc::ServerContext*, Stream* stream) override {
    {
      std::lock_guard lock(stream_mutex_);
      if (stream_ != nullptr) return {grpc::StatusCode::FAILED_PRECONDITION, "a stream is running"};
      stream_ = stream;
    }
    v1::ToShard message;
    while (stream->Read(&message)) jobs_.push(PlanJob{std::move(message), stream});
    // Nobody hears the results of what is still queued.
    jobs_.drop_plans();
    std::lock_guard lock(stream_mutex_);
    stream_ = nullptr;
    return grpc::Status::OK;
  }

  const LoadState& load_;
  JobQueue jobs_;
  std::promise<v1::InfoResponse> info_;
  std::shared_future<v1::InfoResponse> info_ready_ = info_.get_future().share();
  std::atomic<bool> warmed_up_ = false;
  std::atomic<uint64_t> last_step_ = 0;
  std::atomic<Clock::rep> last_step_at_ = 0;
  std::mutex stream_mutex_;
  Stream* stream_ = nullptr;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

std::unique_ptr<Shard> Shard::start(int channel_fd, const LoadState& load) {
  return std::make_unique<Server>(channel_fd, load);
}

void follow(step::Execution& execution, comm::Communicator& communicator) {
  while (true) {
    const std::vector<std::byte> bytes = communicator.receive();
    const auto* data = reinterpret_cast<const char*>(bytes.data());
    const auto size = static_cast<int>(bytes.size()) - 1;
    if (size >= 0 && data[0] == static_cast<char>(Handover::warmup)) {
      v1::WarmupRequest request;
      if (!request.ParseFromArray(data + 1, size)) throw std::runtime_error("unreadable warm-up");
      execution.allocate_kv(request.kv_tokens());
    } else {
      v1::ToShard message;
      if (size < 0 || !message.ParseFromArray(data + 1, size)) {
        throw std::runtime_error("unreadable message from rank 0");
      }
      execute(execution, message);
    }
  }
}

}  // namespace chorus::service
