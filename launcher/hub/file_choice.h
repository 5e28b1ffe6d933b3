// Which of a repository's files serving needs. Pure: names in, names out.
//
// Safetensors come before GGUF unless a quantisation is asked for; pickled weights (.bin, .pt) are
// never read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace chorus::launcher {

struct FileChoice {
  std::vector<std::string> texts;    // configuration and tokenizer; the weights' index comes last
  std::vector<std::string> weights;  // empty where the index names them
  std::string index;                 // among `texts`; empty: none
  std::string gguf;                  // the one file, instead of all of the above; empty: a folder
};

// `names`: the repository's files; `choice`: the part behind the colon of --model-id. Throws
// StartError(model_corrupt) where nothing there can be served, (usage) where the choice fits no
// file or several, with the list of what there is.
FileChoice choose_files(const std::string& id, const std::vector<std::string>& names,
                        const std::string& choice);

// "Q4_K_M" of "Model-7B.Q4_K_M.gguf", in capitals; empty where the name has none.
std::string quantisation_of(std::string_view file_name);

// The weight files that an index (model.safetensors.index.json) names, each once. Throws
// StartError(model_corrupt) where it is none, or names a file outside the folder.
std::vector<std::string> files_of_index(const std::string& text, const std::string& file_name);

}  // namespace chorus::launcher
