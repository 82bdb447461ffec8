// A real nats-server for one test, on a free port of this machine, in a folder of the test's.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "support/ports.h"
#include "support/program.h"

namespace hearth::test {

// `./dev` puts it there; HEARTH_NATS_SERVER names another.
inline std::string broker_program() {
  const char* given = ::getenv("HEARTH_NATS_SERVER");
  return given ? given : HEARTH_TEST_BROKER;
}

class Broker {
 public:
  // `configure` writes the configuration for a port and says where it is; asked again with another port if somebody took the first.
  explicit Broker(std::function<std::string(int port)> configure) : configure_(std::move(configure)) {
    EXPECT_TRUE(std::filesystem::exists(broker_program()))
        << broker_program() << ": no nats-server; `./dev test` installs one, or HEARTH_NATS_SERVER names one";
    for (int tries = 0; tries < 5 && !program_; ++tries) {
      port_ = free_port();
      file_ = configure_(port_);
      start();
    }
    EXPECT_TRUE(program_) << "the broker does not start: " << trouble_;
  }
  [[nodiscard]] int port() const { return port_; }
  // As it was configured last.
  void start() {
    program_ = std::make_unique<Program>(std::vector<std::string>{broker_program(), "-c", file_}, Environment{});
    soon([&] { return !program_->running() || answers_on(port_); });
    if (program_->running()) return;
    trouble_ = program_->err();
    program_.reset();
  }
  // As by kill -9; what it had on its disk stays.
  void kill() { program_.reset(); }
  void signal(int number) const { program_->signal(number); }
  [[nodiscard]] std::string log() const { return program_ ? program_->err() : trouble_; }

 private:
  std::function<std::string(int port)> configure_;
  std::string file_, trouble_;
  int port_ = 0;
  std::unique_ptr<Program> program_;
};

}  // namespace hearth::test
