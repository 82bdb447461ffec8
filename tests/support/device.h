// A device or a host written by others, in Python (tests/devices), for one test.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/mqtt_broker.h"
#include "support/program.h"

namespace hearth::test {

class Device {
 public:
  // Waits until the port, if there is one, is answered.
  Device(const std::string& script, const std::vector<std::string>& arguments, int port = 0)
      : program_(command(script, arguments), {}) {
    if (port == 0) return;
    EXPECT_TRUE(soon([&] { return answers_on(port) || !program_.running(); }));
    EXPECT_TRUE(program_.running()) << program_.err();
  }
  void signal(int number) const { program_.signal(number); }
  [[nodiscard]] bool running() const { return program_.running(); }
  [[nodiscard]] std::string said() const { return program_.err(); }

 private:
  static std::vector<std::string> command(const std::string& script, const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {HEARTH_TEST_DATA "/../devices/python", HEARTH_TEST_VENV, script};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
  Program program_;
};

}  // namespace hearth::test
