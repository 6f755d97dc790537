"""What servers show of a tree of releases: labels, moved and moved back.

Takes `MODELS/NAME/VERSION/`, releases; gives `MODELS/models.config`, which says what
servers load and what labels show.

    label_history.py      What labels showed before
    label_tree.py         The tree, changed by one at a time
    labels.py             Labels shown, moved to another version, and moved back
    labels_command.py     Sub-commands of quern-export for what is exported already
    loaded_versions.py    Waits until servers have loaded a version
    model_config_file.py  `models.config`: which versions servers load, and what labels
                          show
    model_list.py         The versions of a tree and what labels show, as a table
    pruning.py            Removes old versions, never one that is in use
    server_settings.py    Settings of TensorFlow Serving beside `models.config`
    text_format.py        Protobuf's text format, with the place of each field
    whole_release.py      Tells a whole release from what is arriving or cut short
"""
