// What the frames of a CAN bus mean: a DBC file (BO_, SG_, VAL_, SIG_VALTYPE_), the numbers in frames by it, and the way back.
// Also candump's text for one frame. A file of a stranger is as hostile as his frames: limits kDbc*, errors name line and remedy.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::gateway {

struct CanFrame {
  uint32_t id = 0;  // 11 bits, or 29 if extended
  bool extended = false, fd = false, remote = false, error = false;
  uint8_t size = 0, flags = 0;  // at most 8, FD 64; flags of FD
  std::array<uint8_t, 64> data{};
  std::optional<int64_t> time_ms;  // since 1970, where the text had one
  [[nodiscard]] uint32_t key() const { return id | (extended ? 1u << 31 : 0); }
};

// "(1436509052.249713) can0 123#2A366C2B", "18DAF110##1AABB", with or without time and interface, as candump -l writes. Empty: none.
std::optional<CanFrame> read_candump(std::string_view line);
std::string candump_text(const CanFrame& frame);  // without time and interface

struct DbcSignal {
  std::string name;
  int start = 0, size = 1;  // as in the file; of a Motorola signal `start` is its highest bit
  bool intel = true, is_signed = false;
  enum class Form : uint8_t { kInteger, kFloat, kDouble } form = Form::kInteger;
  double factor = 1, offset = 0, min = 0, max = 0;  // min == max: any
  bool selects = false;                             // M: its number says which of the others are there
  std::optional<uint32_t> selected_by;              // m0, m1, ...
  bool extended_selection = false;                  // m0M, which is not read
  std::vector<std::pair<int64_t, std::string>> texts;

  [[nodiscard]] bool fits(size_t bytes) const;
  [[nodiscard]] uint64_t raw(std::span<const uint8_t> data) const;  // fits(data.size())
  [[nodiscard]] double value(std::span<const uint8_t> data) const;
  // False, and nothing written, if no bits of it mean this value.
  [[nodiscard]] bool set(std::span<uint8_t> data, double value) const;
  [[nodiscard]] const std::string* text_of(double value) const;
  [[nodiscard]] std::optional<double> number_of(std::string_view text) const;
};

struct DbcMessage {
  uint32_t key = 0;  // as CanFrame::key()
  std::string name;
  int size = 0;
  std::vector<DbcSignal> signals;
  [[nodiscard]] const DbcSignal* selector() const;
  [[nodiscard]] const DbcSignal* find(std::string_view name) const;
};

struct Dbc {
  std::vector<DbcMessage> messages;
  // kMalformed or kLimit with `file_name` and the line.
  static Result<Dbc> parse(std::string_view text, std::string_view file_name);
  [[nodiscard]] const DbcMessage* find(std::string_view name) const;
};

}  // namespace hearth::gateway
