"""A unit of systemd: one server on one machine, with as little of the machine as it needs.

Sources: systemd.exec(5), systemd.service(5), systemd.resource-control(5); `systemd-analyze
security` scores what is closed off.
"""

from puna.plan.deploy.service import KEYS, Service

PROGRAM = "/opt/puna/bin"  # where the environment with puna lies

_UNIT = """\
# {name}.service
#   cp {name}.service /etc/systemd/system/ && systemctl daemon-reload
#   install -m 600 /dev/stdin /etc/puna/{name}.env    # {keys}=KEY, one or more with commas between
#   systemctl enable --now {name}
# Numbers: {numbers}
[Unit]
Description=puna serving {name}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
ExecStart={command}
EnvironmentFile=/etc/puna/{name}.env
Environment=PUNA_HOME=/var/cache/{name} HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0
Restart=on-failure
RestartSec=5

# The first SIGTERM drains: answers may take {drain_s} s more. Processes of replicas end after it.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec={stop_s}
TimeoutStartSec={start_s}

# What it may take.
MemoryMax={memory}G
MemorySwapMax=0
CPUQuota={quota}%
TasksMax=4096
LimitNOFILE=65536

# What it may see. Pages of memory may become code, since kernels are compiled at run time.
DynamicUser=yes
CacheDirectory={name}
BindReadOnlyPaths={model}
ProtectSystem=strict
ProtectHome=tmpfs
PrivateTmp=yes
{devices}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX{families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
"""

_NO_GPU = "PrivateDevices=yes"
_GPU = """\
DevicePolicy=closed
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw"""


def systemd(service: Service, *, program: str = PROGRAM) -> dict[str, str]:
    """Return the unit.

    Raises:
        RequestError: one machine does not hold what was asked for.
    """
    needs = service.needs
    service.on_one_machine(where="a unit")
    words = [f"{program}/puna", *service.serve(service.model, replicas=service.replicas)]
    if service.is_spread:
        words = [f"{program}/torchrun", "--standalone", "--nproc-per-node", str(needs.gpus),
                 "-m", "puna", *words[1:]]  # fmt: skip
    unit = _UNIT.format(
        name=service.name, keys=KEYS, command=" ".join(words), model=service.model,
        drain_s=service.drain_s, stop_s=service.stop_s, start_s=service.start_s,
        memory=service.memory_gib * (1 if needs.gpu else service.replicas),
        quota=100 * service.cpus * service.replicas,
        devices=_GPU if needs.gpu else _NO_GPU,
        families=" AF_NETLINK" if needs.gpu or service.replicas > 1 else "",
        numbers=service.numbers,
    )  # fmt: skip
    return {f"{service.name}.service": unit}
