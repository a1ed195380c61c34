"""The training pass of a plain Llama or Qwen3 in few large operations, with a backward by hand.

Same weights and same function as the stock forward of transformers, for training on a CPU only:
half of a small model's step is spent between the matrix products, so what stands between them is
merged, kept in bf16 and computed once. Where the machine has a C compiler, compiled kernels do it,
for two halves of a batch side by side. Norm weights are folded into the matrix behind them, queries
see only blocks of keys that they may attend to, and the softmax over the vocabulary is at the same
time the gradient of the loss. docs/decisions.md says what each is worth.

Shape suffixes: B blocks, T tokens a block, N = B x T, E width of the residual stream, A heads of
queries and keys, H of queries, G of keys and values, D width of a head, I width of the MLP,
V vocabulary, Q queries of one block, K keys that they see.
"""
