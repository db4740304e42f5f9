"""The contract's ``compute.pod`` as what Airflow's KubernetesExecutor lays over its pod template.

The executor merges the two: labels and annotations key by key, everything else field by field, so resources that a
contract declares replace all of the template's. The Kubernetes client is imported only for a contract with a pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synth.errors import ContractError

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

    from synth.contract import Pod

# Airflow requires this name of the container that runs the task.
_CONTAINER = "base"


def pod_override(pod: Pod) -> k8s.V1Pod:
    """The pod for ``executor_config={"pod_override": ...}``.

    :raises ContractError: if the Kubernetes client is not installed.
    """
    try:
        from kubernetes.client import models as k8s
    except ImportError:
        raise ContractError(
            "compute.pod: Airflow's Kubernetes provider is not installed here; install "
            "apache-airflow-providers-cncf-kubernetes (the extra kubernetes), or leave compute.pod out"
        ) from None
    tolerations = [k8s.V1Toleration(**toleration.model_dump()) for toleration in pod.tolerations]
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(labels=pod.labels or None, annotations=pod.annotations or None),
        spec=k8s.V1PodSpec(
            containers=[k8s.V1Container(name=_CONTAINER, image=pod.image, resources=_resources(pod))],
            node_selector=pod.node_selector or None,
            tolerations=tolerations or None,
            service_account_name=pod.service_account,
            priority_class_name=pod.priority_class,
        ),
    )


def _resources(pod: Pod) -> k8s.V1ResourceRequirements | None:
    """Requests that equal their limits: for GPUs Kubernetes demands it, and for the rest it evicts such pods last."""
    from kubernetes.client import models as k8s

    wanted = {
        "cpu": pod.cpu,
        "memory": pod.memory,
        "ephemeral-storage": pod.ephemeral_storage,
        pod.gpu_resource: str(pod.gpus) if pod.gpus else None,
    }
    amounts = {resource: amount for resource, amount in wanted.items() if amount is not None}
    return k8s.V1ResourceRequirements(requests=amounts, limits=dict(amounts)) if amounts else None
