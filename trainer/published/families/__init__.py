"""Families of published decoders, a file each.

Takes the fields of a `config.json`; gives the keys `model.*` of the decoder that it
describes, and the names of its tensors. Copy `granite.py` for another, and name it in
`trainer/published/known_families.py`.

    family.py              What a family of published decoders is: its fields, and
                           its tensors' names
    fields.py              The fields of a published `config.json`, each read once
                           and all accounted for
    gemma3.py              Gemma 3, the text models
    gpt2.py                GPT-2: learned positions, layer norms, biases everywhere
    gpt_neox.py            GPT-NeoX, of which Pythia is
    granite.py             Granite 3 of IBM: Llama, with four scales
    layouts.py             How published tensors lie in a weight: each is a view of it
    llama.py               Llama 2 and 3
    llama_names.py         Fields and names of tensors that Llama began with and most
                           families keep
    mistral.py             Mistral: Llama, with a window in all layers
    mixtral.py             Mixtral: Mistral, each layer with experts
    olmo2.py               OLMo 2: norms after both halves, queries and keys
                           normalised
    qwen2.py               Qwen 2 and 2.5: Llama, with biases of queries, keys and
                           values
    qwen3.py               Qwen 3: Llama, with queries and keys normalised by head
    qwen3_moe.py           Qwen 3 with experts: many small ones, in all layers or some
    rope_fields.py         Rotary positions, as published configurations write them,
                           old and new
"""
