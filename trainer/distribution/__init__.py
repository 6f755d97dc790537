"""Strategies, workers, launchers.

Takes the names of strategies and TF_CONFIG; gives replicas that agree.

    agreement.py           What each process of a run states before they connect,
                           and where they differ
    coordinator.py         Asynchronous training: a coordinator hands steps to
                           workers, servers hold weights
    device_options.py      The flags that say how a process's devices are cut and
                           how they talk
    devices.py             The devices of this process: counted, cut into logical
                           ones, and named
    launch_group.py        The processes of a group on one machine: started, heard,
                           watched, ended together
    local_ports.py         Ports of this machine for processes that are still to be
                           started
    rendezvous.py          How the processes of a cluster find each other, or say
                           why not within a minute
    servers.py             Workers and parameter servers of asynchronous training:
                           they serve the coordinator
    strategies.py          Chooses and makes the `tf.distribute` strategy of a run
    workers.py             The processes of one run: which this is, and what they
                           must agree on
"""
