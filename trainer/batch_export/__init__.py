"""A tree of releases: what is put into it, what is in it, and what servers show of it.

Takes `MODELS/NAME/VERSION/`, releases; gives `MODELS/models.config`, which says what
servers load and what labels show.

    exporting.py          Exports what a plan lacks, one release after another, in one
                          process
    figures.py            What is measured of a release: its names, units, and how a
                          release keeps them
    gate.py               What `--require` asks of a release: a small language, read
                          and judged
    judged.py             Measures a release before it is published: started apart,
                          figures read back
    label_history.py      What labels showed before
    label_tree.py         The tree, changed by one at a time
    labels.py             Labels shown, moved to another version, and moved back
    labels_command.py     Sub-commands of quern-export for what is exported already
    loaded_versions.py    Waits until servers have loaded a version
    many_flags.py         Flags of quern-export that name many releases at once
    model_config_file.py  `models.config`: which versions servers load, and what labels
                          show
    model_list.py         The versions of a tree and what labels show, as a table
    plan.py               Which releases are wanted of some runs, and which of them are
                          there already
    pruning.py            Removes old versions, never one that is in use
    release_process.py    Measures one release in a process of its own, as a stock
                          TensorFlow Serving has it
    releases_page.py      The page that shows judged releases: their table, and size
                          against bits per byte
    releases_table.py     The releases of a tree beside each other: as lines, as JSON,
                          sorted, the best marked
    server_settings.py    Settings of TensorFlow Serving beside `models.config`
    split_texts.py        The documents of a dataset's split as texts again, for a
                          release to read
    text_format.py        Protobuf's text format, with the place of each field
    whole_release.py      Tells a whole release from what is arriving or cut short
"""
