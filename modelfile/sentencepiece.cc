// Field numbers are those of sentencepiece_model.proto, as are the defaults in the struct.
#include "modelfile/sentencepiece.h"

#include <cmath>

#include "modelfile/error.h"
#include "modelfile/protobuf.h"

namespace chorus::modelfile {
namespace {

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& file_name)
      : message_(bytes, file_name), file_name_(file_name) {}

  SentencePieceModel read() {
    while (message_.next()) {
      if (message_.field() == 1) read_piece(message_.message());
      if (message_.field() == 2) read_trainer(message_.message());
      if (message_.field() == 3) read_normalizer(message_.message());
    }
    if (model_.pieces.empty()) corrupt("holds no pieces");
    if (model_.unknown < 0 || static_cast<size_t>(model_.unknown) >= model_.pieces.size()) {
      corrupt("has no piece " + std::to_string(model_.unknown) + ", its unknown one");
    }
    for (std::optional<int32_t>* id : {&model_.bos, &model_.eos, &model_.padding}) {
      if (*id && static_cast<size_t>(**id) >= model_.pieces.size()) id->reset();
    }
    return std::move(model_);
  }

 private:
  [[noreturn]] void corrupt(const std::string& why) const {
    throw FileError(FileError::Kind::corrupt, file_name_ + ": " + why);
  }

  void read_piece(ProtobufReader piece) {
    SentencePieceModel::Piece read;
    while (piece.next()) {
      if (piece.field() == 1) read.text = piece.bytes();
      if (piece.field() == 2) read.score = piece.number();
      if (piece.field() == 3) {
        const uint64_t kind = piece.integer();
        if (kind < 1 || kind > 6)
          corrupt("holds a piece of the unknown kind " + std::to_string(kind));
        read.kind = static_cast<TokenKind>(kind);
      }
    }
    if (std::isnan(read.score)) corrupt("holds a score that is not a number");
    if (model_.pieces.size() >= (1u << 24)) corrupt("holds too many pieces");
    model_.pieces.push_back(std::move(read));
  }

  // Ids that are not there are -1.
  static std::optional<int32_t> id_of(const ProtobufReader& field) {
    const auto id = static_cast<int32_t>(field.integer());
    return id < 0 ? std::nullopt : std::optional(id);
  }

  void read_trainer(ProtobufReader trainer) {
    model_.bos = 1;
    model_.eos = 2;
    while (trainer.next()) {
      switch (trainer.field()) {
        case 3: {
          const uint64_t kind = trainer.integer();
          if (kind < 1 || kind > 4) corrupt("is of the unknown kind " + std::to_string(kind));
          model_.kind = static_cast<SentencePieceModel::Kind>(kind);
          break;
        }
        case 35:
          model_.byte_fallback = trainer.flag();
          break;
        case 40:
          model_.unknown = id_of(trainer).value_or(-1);
          break;
        case 41:
          model_.bos = id_of(trainer);
          break;
        case 42:
          model_.eos = id_of(trainer);
          break;
        case 43:
          model_.padding = id_of(trainer);
          break;
        default:
          break;
      }
    }
  }

  void read_normalizer(ProtobufReader normalizer) {
    while (normalizer.next()) {
      if (normalizer.field() == 2) model_.charsmap = normalizer.bytes();
      if (normalizer.field() == 3) model_.add_dummy_prefix = normalizer.flag();
      if (normalizer.field() == 4) model_.remove_extra_whitespaces = normalizer.flag();
      if (normalizer.field() == 5) model_.escape_whitespaces = normalizer.flag();
    }
  }

  ProtobufReader message_;
  const std::string& file_name_;
  SentencePieceModel model_;
};

}  // namespace

SentencePieceModel read_sentencepiece(std::string_view bytes, const std::string& file_name) {
  return Reader(bytes, file_name).read();
}

}  // namespace chorus::modelfile
