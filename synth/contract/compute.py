"""Where ``train`` and ``generate`` run.

Nothing here changes what a release is or what it costs. A contract is public, so a pod has no field for environment
variables, volumes or secrets: those stay in the deployment's pod template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema, core_schema

from synth.contract.columns import Frozen


@dataclass(frozen=True)
class Form:
    """A text of one form. A fault says in words what is accepted, where a bare pattern would show the pattern.

    :param pattern: the whole text's.
    :param accepted: the same in words.
    :param longest: characters.
    :param number: whether YAML's numbers stand for their text.
    """

    pattern: str
    accepted: str
    longest: int = 253
    number: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        kind = ["string", "number"] if self.number else "string"
        return handler(schema) | {"type": kind, "pattern": f"^(?:{self.pattern})$", "maxLength": self.longest}

    def _checked(self, value: Any) -> str:
        if self.number and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise ValueError(f"accepted: {self.accepted}; YAML takes this for no text, quote it")
        if len(value) > self.longest:
            raise ValueError(f"accepted: {self.accepted}; at most {self.longest} characters")
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f"accepted: {self.accepted}")
        return value


# The grammar of names and quantities is the Kubernetes API's, narrowed to what is not a likely mistake.
_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_IMAGE_HOST = r"[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE_VERSION = r"(?::[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(?:@sha256:[0-9a-f]{64})?"

PoolName = Annotated[str, Form(r"\S(?:[^\r\n]*\S)?", "a name that neither begins nor ends with a space", 200)]
QueueName = Annotated[str, Form(r"[^\s,]+", "one queue's name, without spaces or commas", 200)]
ExecutorName = Annotated[
    str,
    Form(
        r"[A-Za-z_][-A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*",
        "an executor that Airflow is configured with: its name, such as KubernetesExecutor, its alias or module path",
        200,
    ),
]
ObjectName = Annotated[str, Form(_SUBDOMAIN, "lower-case letters, digits, - and ., such as trainer")]
Cpu = Annotated[
    str,
    Form(
        r"(?!0*(?:\.0*)?m?$)(?:[0-9]{1,4}(?:\.[0-9]{1,3})?|[0-9]{1,7}m)",
        "cores above 0, such as 4, 0.5 or 500m, no finer than a thousandth",
        number=True,
    ),
]
Bytes = Annotated[
    str,
    Form(
        r"(?!0*(?:\.0*)?[A-Za-z])[0-9]{1,9}(?:\.[0-9]{1,3})?(?:[KMGT]i|[kMGT])",
        "an amount above 0 with its unit, such as 16Gi or 500M",
    ),
]
Image = Annotated[
    str,
    Form(
        rf"(?:{_IMAGE_HOST}/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*{_IMAGE_VERSION}",
        "an image such as registry.example.org/sluice:1.0 or one with @sha256: and its digest",
        500,
    ),
]
GpuResource = Annotated[
    str,
    Form(
        rf"(?!requests\.|.*kubernetes\.io/){_SUBDOMAIN}/{_WORD}",
        "a resource of a device plugin, such as nvidia.com/gpu",
    ),
]
LabelKey = Annotated[str, Form(rf"(?:{_SUBDOMAIN}/)?{_WORD}", "a key such as team or example.org/team", 317)]
LabelValue = Annotated[
    str, Form(rf"(?:{_WORD})?", "letters, digits, -, _ and ., beginning and ending with a letter or digit", 63)
]
AnnotationValue = Annotated[str, Field(max_length=4096)]

# What KubernetesExecutor finds its pods by; an override would take precedence over it.
_OF_AIRFLOW = {
    "airflow-worker", "airflow_executor_done", "airflow_pod_revoked", "airflow_version", "dag_id", "execution_date",
    "kubernetes_executor", "logical_date", "map_index", "run_id", "task_id", "task_instance_id", "ti_id", "try_number",
}  # fmt: skip


class Toleration(Frozen):
    """A taint of nodes that the pod puts up with, as the Kubernetes API has it."""

    key: LabelKey | None = Field(None, description="None with operator Exists: every taint.")
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(None, description="None: every one.")
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(None, description="NoExecute: how long.")

    @model_validator(mode="after")
    def _consistent(self) -> Toleration:
        if self.key is None and self.operator != "Exists":
            raise ValueError("without a key, accepted: operator: Exists")
        if self.value and self.operator == "Exists":
            raise ValueError(f"value={self.value!r}: operator Exists takes no value; accepted: operator: Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("toleration_seconds applies to effect: NoExecute only")
        return self


class Pod(Frozen):
    """What KubernetesExecutor's pod of ``train`` and ``generate`` has beyond the deployment's pod template.

    What is left out stays as in the template. Of CPU, memory, storage and GPUs the pod requests exactly its limit.
    There is no env and there are no secrets: a contract is public, and those belong in the pod template.
    """

    image: Image | None = Field(None, description="Must hold Airflow, Sluice and the same DAG files as the workers.")
    cpu: Cpu | None = Field(None, description="Cores, such as 4 or 500m.")
    memory: Bytes | None = Field(None, description="With its unit, such as 16Gi.")
    ephemeral_storage: Bytes | None = Field(None, description="Local disk, with its unit, such as 20Gi.")
    gpus: Annotated[int, Field(ge=1, le=64)] | None = Field(None, description="Devices of gpu_resource.")
    gpu_resource: GpuResource = Field("nvidia.com/gpu", description="What the cluster calls a GPU.")
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=50)] = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=50)] = ()
    service_account: ObjectName | None = None
    priority_class: ObjectName | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=50)] = Field(default_factory=dict)
    annotations: Annotated[dict[LabelKey, AnnotationValue], Field(max_length=50)] = Field(default_factory=dict)

    @field_validator("labels", "annotations")
    @classmethod
    def _not_airflows(cls, entries: dict[str, str]) -> dict[str, str]:
        taken = sorted(_OF_AIRFLOW & entries.keys())
        if taken:
            raise ValueError(f"Airflow finds its pods by {', '.join(taken)}; accepted: other keys")
        return entries


class Compute(Frozen):
    """Where ``train`` and ``generate`` run; by default where every other step does."""

    queue: QueueName | None = Field(None, description="CeleryExecutor: workers started with --queues take from it.")
    pool: PoolName | None = Field(None, description="A pool of Airflow, whose slots bound what runs at a time.")
    executor: ExecutorName | None = Field(
        None, description="One of the executors that Airflow is configured with; by default the first."
    )
    pod: Pod | None = None
