"""A preparation, from input bytes to shards.

Takes flags; gives a dataset, its provenance and what there is to report.

    dry_run.py             What a dry run prints: what each stage keeps, and what it
                           drops for which reason
    input_flags.py         The flags that say what the input is, shared by the
                           commands that read documents
    mix_shards.py          The last part of a mixture's preparation: packed rows
                           into shards of mixed rows
    mixture_order.py       Which packed row each row of a mixture is, known once
                           every shard is packed
    pack_shard.py          The second half of a preparation: one range of the global
                           order to its shards
    prepare_flags.py       The flags of quern-prepare, and the configuration that
                           they describe
    prepare_graph.py       The Beam graph of a preparation: which step's output is
                           grouped for which
    prepare_input.py       What the flags of a preparation name: its input, its
                           tokenizer, all it will do
    provenance.py          Provenance tables: which document, and which part of it,
                           each segment of a row is
    results.py             What the steps' records add up to: the manifest's
                           numbers, checked, and the report's
    shard_documents.py     The documents of one shard, in the seed's order and in
                           parts that fit in memory
    tokenize_task.py       The first half of a preparation: from input bytes to ids,
                           scattered to shards
    workspace.py           The output directory before and after the work: whose it
                           is, and what may go on
"""
