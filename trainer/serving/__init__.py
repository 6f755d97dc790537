"""One home for using a model: loading, decoding, answering.

Takes a model or a release, and prompts; gives texts and scores. It knows nothing of
training.

    added_tokens_graph.py  Cuts texts at their added tokens inside a TensorFlow graph,
                           as the corpus does
    answering.py           Answers a list of prompts with a release: text to ids,
                           the engine, ids to text
    character_classes.py   Word cutting for TensorFlow: a tokenizer's pattern
                           rewritten for RE2, exactly
    embed.py               Texts as vectors, from a model's last hidden states,
                           inside the graph
    generate.py            Continues prompts inside the graph: one prefill, then one
                           token per loop turn
    graph_tokenizer.py     The tokenizer inside a TensorFlow graph: text to ids and
                           back, as in the corpus
    id_law.py              The law of ids, on texts chosen to break it: graph =
                           corpus = `tokenizers`
    loaded_release.py      A release in memory, for whoever uses one: text and
                           settings in, text out
    measured_texts.py      Scores or embeds a list of texts with a release, in
                           batches of like length
    nfc_graph.py           NFC inside a TensorFlow graph, exactly as `tokenizers`
                           normalises
    nfc_tables.py          What NFC does to each code point, asked from the reference,
                           `tokenizers`
    sampling.py            Chooses one token per row from logits, with every
                           parameter a tensor per row
    score.py               The log-likelihood of documents and of continuations,
                           inside the graph
    sentencepiece_proto.py A byte-level BPE as a SentencePiece model, the one BPE
                           engine in TF Serving
    signatures.py          What computes a release's answers: text in, text out, the
                           tokenizer in the graph
    slot_graphs.py         The calls of a slot model as functions of tensors in the
                           order of their signature
    slot_models.py         Slot models for the engine: of a language model in memory,
                           and of a release
    slots.py               Decoding in slots that are refilled: what one call of a
                           graph does for them
    stop_graph.py          Strings that end a text, found inside the graph as the
                           engine finds them
    windows.py             Windows of sequences, read by a model several at a time,
                           in bounded memory
"""
