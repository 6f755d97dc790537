"""The families of models, as tf.Modules.

Takes ids and segments; gives hidden states and logits. A family is one file: copy
`recurrent.py` for another, and name it in `model.py`.

    attention.py           Causal grouped-query attention with rotary positions,
                           over rows and over a cache
    block.py               A layer of the decoder, and the residual stream that runs
                           through it
    chunked_attention.py   Attention in chunks with its own gradient: memory linear
                           in the length
    custom_call.py         A custom call of XLA inside a compiled function
    decoder.py             A Llama-style decoder (Touvron et al. 2023, arXiv
                           2302.13971)
    functional.py          A module's weights as tensors: what a compiled function
                           takes instead of variables
    fused_attention.py     Attention as one kernel of cuDNN: nothing of a score ever
                           reaches memory
    language_model.py      What every model family promises, and how a family is
                           described
    layers.py              Small layers that both families share: weights, SwiGLU,
                           vocabulary, dropout
    model.py               Builds the language model that a configuration describes,
                           of whatever family
    normalisation.py       Root mean square normalisation, alone and behind a
                           residual sum
    parameters.py          How many parameters a model has, and what its products
                           cost, by their roles
    recurrent.py           The recurrent family: embedding, GRU layers, dense to the
                           vocabulary
    rematerialisation.py   Layers computed again in the backward pass, so that only
                           their inputs are kept
    rotary.py              Queries, keys and values out of one product, the first
                           two turned by position
    weights.py             What each weight is for, said where it is made
"""
