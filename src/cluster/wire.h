// What machines of a site say to each other about a model's layers: frames with a fixed schema, little endian, without pointers or
// offsets. A frame is a header of 28 bytes and its payload:
//
//   u32 bytes of the payload | u32 CRC-32C of all that follows | u8 version | u8 kind | u16 zero | u64 epoch | u64 step | payload
//
// Lists begin with a u32 count, texts with a u16 length. Nothing of a frame is trusted; a field over its limit refuses the frame.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "model/decoder.h"
#include "model/pack.h"
#include "model/sequence.h"

namespace hearth::cluster {

inline constexpr uint8_t kWireVersion = 3;
inline constexpr size_t kFrameHeaderBytes = 28;

using SessionId = std::array<std::byte, 16>;  // random: one owner's use of one model

// What a connection is for: it is the first frame on it.
enum class LinkClass : uint8_t {
  kControl,  // owner to stage: assign, ping, pieces of the model; back: ready, pong, error, fetch. A head's rows and answers, too
  kSteps,    // to a stage, from the one before it or the owner
  kResults,  // owner to the last stage, which answers on it
  kPieces,   // pieces of a pack, from one that has them or is getting them
  kCopies,   // from a stage to who has a copy of its state
};
struct Hello {
  LinkClass link = LinkClass::kControl;
  SessionId session{};
  bool operator==(const Hello&) const = default;
};
// How rows travel: as they are, or as integers with a scale for each 64 values, for links that are slow. Then where a model is divided
// is part of what it computes.
enum class RowFormat : uint8_t { kF32, kI16, kI8 };
// A machine that needs these layers of a pack, too.
struct PartPeer {
  std::string address;  // "HOST:PORT"
  LayerRange layers{};
};
// A stage's work from this epoch on.
struct Assign {
  enum class Kind : uint8_t {
    kFresh,   // no sequence is known
    kResume,  // with the state there is
    kCopy,    // beside what it does, in the same epoch: to have a copy of the state of these layers
    kHead,    // the output head, and no layers
  };
  Kind kind = Kind::kFresh;
  Digest model{};           // SHA-256 of what its pack was made from
  uint64_t pack_bytes = 0;  // of the pack's file
  LayerRange layers{};
  uint32_t context = 0, rows_max = 0;
  KvType kv_type = KvType::kF16;
  uint32_t positions_max = 0, sequences_max = 0;
  std::string next;                  // "HOST:PORT" of the stage after this one; empty: results go to the owner
  bool keep = false;                 // all of the pack is to be fetched, and no stage made
  std::vector<PartPeer> peers{};     // that fetch, this one among them
  uint32_t self = 0;                 // which of them this one is
  std::vector<uint32_t> cuts{};      // where the layers are divided into pieces, in order
  RowFormat rows = RowFormat::kF32;  // that it sends on
};
struct Ready {
  bool has_state = true;          // of kResume: false if not of all its layers
  uint64_t done = 0, oldest = 1;  // it has run so many steps, and can repeat those from `oldest` on
  uint32_t warm_up_us = 0;        // what a step of kWarmUpRows took, or a row of a head; 0: none was tried
  bool operator==(const Ready&) const = default;
};
struct StepRows {
  SequenceId sequence = 0;
  int32_t position = 0, count = 0;
  bool operator==(const StepRows&) const = default;
};
// Operations first, then rows; `hidden` is the residual stream, [rows][d_model].
struct Step {
  std::vector<SequenceOp> ops;
  std::vector<StepRows> rows;
  std::vector<float> hidden;
  RowFormat format = RowFormat::kF32;
};
struct StepAnswer {
  std::vector<float> hidden;
  RowFormat format = RowFormat::kF32;
};
struct Ping {
  std::vector<std::byte> padding{};  // to see how much the link takes
  bool operator==(const Ping&) const = default;
};
struct Pong {            // its frame's step is the last that the stage ran
  uint64_t busy_ms = 0;  // in which its layers were at steps, in all
  bool operator==(const Pong&) const = default;
};
struct Failure {
  enum class Of : uint8_t {
    kMachine,  // that says so
    kNext,     // the stage after it, which is not to be reached
    kOwner,    // the chain is another's now
  };
  Of of = Of::kMachine;
  std::string message;
};
// The same of any machine, on a connection for pieces: an empty piece says that it is not there, and will not be.
struct Want {
  Digest model{};
  uint64_t offset = 0;
  uint32_t bytes = 0;
};
// A part of the pack's file.
struct Fetch {
  uint64_t offset = 0;
  uint32_t bytes = 0;
};
struct PackPiece {
  uint64_t offset = 0;
  std::vector<std::byte> bytes;
};

// What is asked for of a pack's bytes; fewer at the end.
PackPiece cut_piece(std::span<const std::byte> pack, const Fetch& fetch);

// A machine that joins asks for its certificate with the invitation's secret, and gets it.
struct Enrol {
  std::string secret, request_pem;
};
struct Enrolled {
  std::string certificate_pem, authority_pem;
  std::string brokers{};      // "HOST:PORT", one a line
  std::string revoked_pem{};  // the newest list of revoked certificates; may be empty
};

// Owner to stage: the state of this piece is to be copied there from now on, beside its work.
struct CopyTo {
  LayerRange layers{};
  std::string to;
};
// Some of it, at the epoch and step of the frame. Only with the tables, which come last, it is whole.
struct CopyPart {
  LayerRange layers{};
  bool whole = false;
  std::vector<SequenceStore::Table> tables;
  std::vector<int32_t> pages;
  std::vector<std::byte> bytes;  // of those pages, one after the other
};
// Who has the copy to the owner: it is ready to be filled, or whole as of a step.
struct Copied {
  LayerRange layers{};
  bool whole = false;
  uint64_t done = 0;
};
// A machine to the owner: it will end, and wants its layers to go elsewhere before.
struct Leaving {
  bool operator==(const Leaving&) const = default;
};

// The residual stream behind the last layer, [rows][d_model], at 32 bits. The frame's step is the answer's, too.
struct HeadRows {
  uint32_t count = 0;  // most likely tokens of each row; 0: all logits
  std::vector<float> hidden;
};
struct HeadAnswer {
  std::vector<int32_t> tokens;  // [rows][count]; of all logits none
  std::vector<float> logits;    // [rows][count], or [rows][n_vocab]
};
// So many rows may be asked for at once: the answer has limits::kHeadAnswerValues numbers, or is one row's.
size_t head_rows_max(uint32_t count, size_t n_vocab);

using Message = std::variant<Hello, Assign, Ready, Step, StepAnswer, Ping, Pong, Failure, Fetch, PackPiece, Enrol,
                             Enrolled, Want, CopyTo, CopyPart, Copied, Leaving, HeadRows, HeadAnswer>;

struct Frame {
  uint64_t epoch = 0, step = 0;
  Message message;
};

// Sizes that come from ourselves are within the limits; CHECKed.
std::vector<std::byte> to_bytes(const Frame& frame);
// A step or an answer without a copy of its rows in a Frame.
std::vector<std::byte> step_bytes(uint64_t epoch, uint64_t step, std::span<const SequenceOp> ops,
                                  std::span<const StepRows> rows, std::span<const float> hidden,
                                  RowFormat format = RowFormat::kF32);

// Frames out of a stream of bytes.
class FrameReader {
 public:
  explicit FrameReader(uint64_t payload_max = limits::kFrameBytes) : payload_max_(payload_max) {}
  // The place to put further bytes.
  std::span<std::byte> room();
  void put(size_t bytes) { used_ += bytes; }
  // The next whole frame, if there is one. kMalformed, kCorrupt or kLimit: the connection is of no more use.
  Result<std::optional<Frame>> next();

 private:
  uint64_t payload_max_;
  std::vector<std::byte> buffer_;
  size_t begin_ = 0, used_ = 0;
};

// CRC-32C (Castagnoli), as RFC 3720 has it.
uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace hearth::cluster
