"""lm-eval and EvalPlus: an environment of their own, and the two scripts that run in it."""
