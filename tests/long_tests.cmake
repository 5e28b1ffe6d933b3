# Read by CTest: it starts the most expensive tests first, so that they run beside all others. These
# take half a minute each; a program that lacks them is none the worse.
set_tests_properties(
  "the default model on one emulated rank gives the CPU backend's tokens"
  "the default model on two emulated ranks gives the CPU backend's tokens"
  PROPERTIES COST 100)
