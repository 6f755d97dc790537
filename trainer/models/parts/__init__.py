"""What models are made of: weights and their roles, norms, products, attention.

Takes and gives tensors; a part knows neither the model it stands in nor how it is
trained. Each writes its own gradient where TensorFlow's would keep or compute more.

    activations.py         Activations of feed-forward layers, each with its slope
    attention.py           Causal grouped-query attention with rotary positions,
                           over rows and over a cache
    cache.py               The cache of keys and values: what queries see of it, and
                           how new ones get there
    chunked_attention.py   Attention in chunks with its own gradient: memory linear
                           in the length
    custom_call.py         A custom call of XLA inside a compiled function
    experts.py             Gated feed-forward layers of which each token chooses a few
                           (mixture of experts)
    feed_forward.py        Feed-forward layers: gated, and plain
    fused_attention.py     Attention as one kernel of cuDNN: nothing of a score ever
                           reaches memory
    grouped_products.py    Products of rows with the one of several matrices that each
                           row chose
    layer_norm.py          Layer normalisation, alone and behind a residual sum
    layers.py              Small layers that all families share: weights, biases,
                           vocabulary, dropout
    normalisation.py       Root mean square normalisation, alone and behind a
                           residual sum
    rotary.py              Queries, keys and values out of one product, the first
                           two turned by position
    weights.py             What each weight is for, said where it is made
"""
