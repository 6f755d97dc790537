"""What the machine and TensorFlow's wheel are, and what a process is told by them.

Takes nothing but the machine; gives findings, signals and sizes.

    cuda_libraries.py      Which CUDA libraries TensorFlow's wheel wants, and which
                           of them open
    device_memory.py       How many bytes a device has: a GPU's own, or what control
                           groups leave a process
    finding.py             One line of what `quern-doctor` reports
    gpu_findings.py        What `quern-doctor` says of GPUs: judgements of what the
                           driver and the wheel told
    interruption.py        Requests to stop: SIGTERM, SIGUSR1 and `--max_duration`,
                           as a flag that is polled
    nvml.py                NVIDIA's driver and its GPUs, asked of NVML, the library
                           that comes with a driver
    tensorflow_logs.py     Keeps TensorFlow's own messages off the terminal; imports
                           TensorFlow itself
    tensorflow_messages.py TensorFlow's and TensorFlow Serving's messages, by the
                           fields that are used here
    tensorflow_probe.py    What TensorFlow can do on this machine, as a child
                           process saw it
    tensorflow_wheel.py    What lies inside TensorFlow's wheels, and is promised
                           nowhere
    watchdog.py            Ends a process that does nothing any more, and shows a
                           launcher that it still does
"""
