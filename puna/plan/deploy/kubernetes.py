"""Manifests of Kubernetes: replicas of one server, or one server over several pods.

A server that fits one machine is a Deployment with an autoscaler. One that does not is a
StatefulSet whose pods are the nodes of one `torchrun`; the first of them answers. Either way the
end of a pod is the end of a server: it leaves the Service, drains for as long as answers may take,
and only then is killed. Source: Kubernetes API, v1.29 to v1.34.
"""

from collections.abc import Mapping

from puna.plan.deploy.service import KEYS, LEAVING_S, PORT, USER, Service
from puna.plan.deploy.yaml_text import Value, documents, to_yaml

_RENDEZVOUS = 29_500  # where the pods of one server find each other
_MOUNT = "/models"


def kubernetes(service: Service) -> dict[str, str]:
    """Return the manifests, and apart from them the secret, which holds no key yet."""
    parts = [
        (claim(service), "The model's files: copy them in once, under a folder of its name."),
        (address(service), "The address inside the cluster; put TLS and limits before it."),
    ]
    if service.needs.nodes > 1:
        parts += [
            (meeting(service), "Where the pods of one server find each other."),
            (stateful(service), f"One server over {service.needs.nodes} pods."),
        ]
    else:
        parts += [
            (deployment(service), "The servers."),
            (budget(service), "Drains of nodes leave most of them in service."),
            (scaler(service), _scales(service)),
        ]
    parts.append((wall(service), "Nobody reaches a pod but through its port."))
    first = f"kubectl apply --filename {service.name}.yaml\nNumbers: {service.numbers}\n"
    texts = [to_yaml(parts[0][0], comment=first + parts[0][1])]
    texts += [to_yaml(value, comment=said) for value, said in parts[1:]]
    said = (
        "Fill in one key or more, with commas between; without one no server starts. Apply it once "
        "and keep it out of version control."
    )
    return {
        f"{service.name}.yaml": documents(*texts),
        f"{service.name}-keys.yaml": to_yaml(secret(service), comment=said),
    }


def claim(service: Service) -> dict[str, Value]:
    """Return the claim of a disk; several pods read it at once where there are several."""
    is_shared = service.replicas > 1 or service.needs.nodes > 1
    spec: dict[str, Value] = {
        "accessModes": ["ReadWriteMany" if is_shared else "ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{service.disk_gib}Gi"}},
    }
    return _object(service, "PersistentVolumeClaim", "v1", spec, suffix="-model")


def secret(service: Service) -> dict[str, Value]:
    """Return the secret, empty."""
    made = _object(service, "Secret", "v1", {}, suffix="-keys")
    del made["spec"]
    return {**made, "type": "Opaque", "stringData": {KEYS: ""}}


def address(service: Service) -> dict[str, Value]:
    """Return the Service; a client stays with its pod, which knows its dialogs."""
    selector = dict(_labels(service))
    if service.needs.nodes > 1:
        selector["statefulset.kubernetes.io/pod-name"] = f"{service.name}-0"
    spec: dict[str, Value] = {
        "selector": selector,
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 3600}},
    }
    return _object(service, "Service", "v1", spec)


def meeting(service: Service) -> dict[str, Value]:
    """Return the Service that gives each pod of a StatefulSet its name."""
    spec: dict[str, Value] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,  # they meet before any of them is ready
        "selector": _labels(service),
        "ports": [{"name": "meeting", "port": _RENDEZVOUS}],
    }
    return _object(service, "Service", "v1", spec, suffix="-nodes")


def deployment(service: Service) -> dict[str, Value]:
    """Return the Deployment."""
    spec: dict[str, Value] = {
        "replicas": service.replicas,
        "selector": {"matchLabels": _labels(service)},
        "strategy": {
            "type": "RollingUpdate",
            # Devices are rarely idle: a new pod may have to wait for the end of an old one.
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "progressDeadlineSeconds": service.start_s + service.stop_s + 300,
        "template": _pod(service),
    }
    return _object(service, "Deployment", "apps/v1", spec)


def stateful(service: Service) -> dict[str, Value]:
    """Return the StatefulSet of one server over several pods."""
    spec: dict[str, Value] = {
        "replicas": service.needs.nodes,
        "serviceName": f"{service.name}-nodes",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": _labels(service)},
        "template": _pod(service),
    }
    return _object(service, "StatefulSet", "apps/v1", spec)


def budget(service: Service) -> dict[str, Value]:
    """Return how many pods may be away at once."""
    spec: dict[str, Value] = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(service)}}
    return _object(service, "PodDisruptionBudget", "policy/v1", spec)


def scaler(service: Service) -> dict[str, Value]:
    """Return the autoscaler: by processors, or by the answers that a device writes together."""
    if service.needs.gpu is None:
        metric: dict[str, Value] = {
            "type": "Resource",
            "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}
            },
        }  # fmt: skip
    else:
        goal = str(max(1, service.load.running * 3 // 4))
        metric = {
            "type": "Pods",
            "pods": {
                "metric": {"name": "puna_engine_running"},
                "target": {"type": "AverageValue", "averageValue": goal},
            },
        }
    spec: dict[str, Value] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
        "minReplicas": service.replicas,
        "maxReplicas": 4 * service.replicas,
        "metrics": [metric],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
    }
    return _object(service, "HorizontalPodAutoscaler", "autoscaling/v2", spec)


def wall(service: Service) -> dict[str, Value]:
    """Return who may reach a pod, and whom it may reach: names, and its own kind."""
    own: dict[str, Value] = {"podSelector": {"matchLabels": _labels(service)}}
    names: list[Value] = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    spec: dict[str, Value] = {
        "podSelector": {"matchLabels": _labels(service)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}, {"from": [own]}],
        "egress": [{"ports": names}, {"to": [own]}],
    }
    return _object(service, "NetworkPolicy", "networking.k8s.io/v1", spec)


def _pod(service: Service) -> dict[str, Value]:
    volumes: list[Value] = [
        {"name": "model", "persistentVolumeClaim": {"claimName": f"{service.name}-model"}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "exchange", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
    ]
    spec: dict[str, Value] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": service.stop_s,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(service)],
        "volumes": volumes,
    }  # fmt: skip
    if service.needs.gpu:
        spec["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
    return {"metadata": {"labels": _labels(service), "annotations": scraped}, "spec": spec}


def _container(service: Service) -> dict[str, Value]:
    key = {"name": f"{service.name}-keys", "key": KEYS}
    environment: list[Value] = [{"name": KEYS, "valueFrom": {"secretKeyRef": key}}]
    container: dict[str, Value] = {
        "name": "puna",
        "image": service.image,
        "imagePullPolicy": "IfNotPresent",
        **_entry(service),
        "ports": [{"name": "http", "containerPort": PORT}],
        "env": environment,
        "resources": _resources(service),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVING_S)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "model", "mountPath": _MOUNT, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "exchange", "mountPath": "/dev/shm"},
        ],
    }  # fmt: skip
    if service.needs.nodes == 1:
        container |= _probes(service)
    else:  # only the first pod answers, and nobody can ask the others how they are
        index = {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}
        environment.append({"name": "NODE_RANK", "valueFrom": {"fieldRef": index}})
    return container


def _probes(service: Service) -> dict[str, Value]:
    """Return when a pod has started, takes requests, and is beyond help.

    /health is 503 while a server drains, which must not kill it: whether it lives is asked of its
    port alone.
    """
    health: dict[str, Value] = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "startupProbe": {
            **health, "periodSeconds": 5, "failureThreshold": -(-service.start_s // 5)
        },
        "readinessProbe": {
            **health, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2
        },
        "livenessProbe": {
            "tcpSocket": {"port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }  # fmt: skip


def _resources(service: Service) -> dict[str, Value]:
    memory = f"{service.memory_gib}Gi"
    limits: dict[str, Value] = {"memory": memory}
    if service.needs.gpu:
        limits["nvidia.com/gpu"] = service.needs.gpus_a_node
    return {"requests": {"cpu": service.cpus, "memory": memory}, "limits": limits}


def _entry(service: Service) -> dict[str, Value]:
    """Return what the container runs."""
    needs = service.needs
    words = list(service.serve(f"{_MOUNT}/{service.name}", port=PORT))
    if not service.is_spread:
        return {"args": words}
    start = ["torchrun", f"--nnodes={needs.nodes}", f"--nproc-per-node={needs.gpus_a_node}"]
    if needs.nodes > 1:
        first = f"{service.name}-0.{service.name}-nodes"
        start += ["--node-rank=$(NODE_RANK)", f"--master-addr={first}"]
        start += [f"--master-port={_RENDEZVOUS}"]
    else:
        start = ["torchrun", "--standalone", f"--nproc-per-node={needs.gpus_a_node}"]
    return {"command": [*start, "-m", "puna"], "args": words}


def _labels(service: Service) -> Mapping[str, Value]:
    return {"app.kubernetes.io/name": "puna", "app.kubernetes.io/instance": service.name}


def _object(
    service: Service, kind: str, version: str, spec: Mapping[str, Value], *, suffix: str = ""
) -> dict[str, Value]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": service.name + suffix, "labels": _labels(service)},
        "spec": spec,
    }


def _scales(service: Service) -> str:
    if service.needs.gpu is None:
        return "More servers when their processors are busy."
    return (
        "More servers when each writes many answers at once. puna_engine_running comes from "
        "/metrics,\nthrough an adapter of Prometheus; without one the number of servers stays."
    )
