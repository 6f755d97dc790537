"""The families of models, as tf.Modules.

Takes ids and segments; gives hidden states and logits. A family is one file: copy
`recurrent.py` for another, and name it in `model.py`.

    block.py               A layer of the decoder, and the residual stream that runs
                           through it
    decoder.py             A decoder, assembled from parts as its configuration says
    decoder_checks.py      Which parts of a decoder go together, and in what ranges
                           its numbers lie
    decoder_parts.py       What the layers of a decoder are made of, by its shape, and
                           what they keep
    decoder_shape.py       The shape of a decoder: what its parts are
    functional.py          A module's weights as tensors: what a compiled function
                           takes instead of variables
    language_model.py      What every model family promises, and how a family is
                           described
    model.py               Builds the language model that a configuration describes,
                           of whatever family
    parameters.py          How many parameters a model has, and what its products
                           cost, by their roles
    recurrent.py           The recurrent family: embedding, GRU layers, dense to the
                           vocabulary
    rematerialisation.py   Layers computed again in the backward pass, so that only
                           their inputs are kept
    stored_weights.py      A model's weights as a release keeps them where it keeps
                           them narrower than float32
"""
