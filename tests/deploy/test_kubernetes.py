"""deploy/kubernetes: valid by Kubernetes' schemas, and its parts fit each other, the image and the server."""

import json
import re
from typing import Any

import pytest
import yaml

from app import bootstrap
from app.settings import Settings, load_settings, otel_exports
from tests.deploy.kubernetes import FILES, container, objects, of_kind, pod, seconds, the_only, told
from tests.grafana.composed import last_stage
from tests.needs import lack
from tests.server.process import PROJECT_ROOT

VERSIONS = ("1.31", "1.34")
SECRETS = {"SUPABASE_KEY", "OPENAI_API_KEY", "OPS_TOKEN", "TELEMETRY_HASH_KEY"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PROMISED_RSS_MIB = 237
"""With 1,000 streams open: bench/RESULTS.md."""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    """Each object is one by the schemas of that version, without a field that it does not know."""
    try:
        import kubernetes_validate
    except ImportError:
        lack("kubernetes-validate is not installed; to run this test: make install-dev")
    assert len(list(objects())) >= 6
    for file, found in objects():
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as exc:
            pytest.fail(f"{file.name}, {found['kind']}: {exc.message}")


def test_no_key_stands_twice() -> None:
    """No file has a key twice, of which a reader would silently take the last."""

    class Strict(yaml.SafeLoader):
        """Refuses what has a key twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(map(str, keys))), f"twice in {node.start_mark}"
            return super().construct_mapping(node, deep)

    for file in FILES:
        list(yaml.load_all(file.read_text("utf-8"), Strict))


def test_selectors_find_the_pods() -> None:
    """The set, both services, the budget and both spreads select by labels that the pods have."""
    stateful = the_only("StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    selectors = [
        stateful["selector"]["matchLabels"],
        the_only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in pod()["topologySpreadConstraints"]]
    selectors += [service["spec"]["selector"] for service in of_kind("Service")]
    assert len(selectors) == 6
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_ports_agree() -> None:
    """The image listens where the pod says, which services, probes and the ingress name as the pod does."""
    (port,) = container()["ports"]
    bind = dict(pair.split("=", 1) for verb, text in last_stage() if verb == "ENV" for pair in text.split())["BIND"]
    assert (f"0.0.0.0:{port['containerPort']}", [str(port["containerPort"])]) == (bind, _arguments("EXPOSE"))
    assert "BIND" not in told()
    asked = [container()[probe]["httpGet"]["port"] for probe in PROBES]
    asked += [service["spec"]["ports"][0]["targetPort"] for service in of_kind("Service")]
    asked += [path["backend"]["service"]["port"]["name"] for path in _paths()]
    assert set(asked) == {port["name"]} == {service["spec"]["ports"][0]["name"] for service in of_kind("Service")}


def test_names_lead_to_objects() -> None:
    """The set's service is the headless one, the ingress's has an address; map, key and volume are those that are."""
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind("Service")}
    stateful = the_only("StatefulSet")["spec"]
    assert services[stateful["serviceName"]]["clusterIP"] == "None"
    assert {path["backend"]["service"]["name"] for path in _paths()} == {
        name for name, spec in services.items() if "clusterIP" not in spec
    }
    (source,) = container()["envFrom"]
    assert source["configMapRef"]["name"] == the_only("ConfigMap")["metadata"]["name"]
    (mount,) = container()["volumeMounts"]
    (claim,) = stateful["volumeClaimTemplates"]
    assert mount["name"] == claim["metadata"]["name"]
    (data_dir,) = re.findall(r"DATA_DIR=(\S+)", " ".join(_arguments("ENV")))
    assert (mount["mountPath"], "DATA_DIR" in told()) == (data_dir, False)


def test_every_variable_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map and keys are settings or OpenTelemetry's, which a server takes as they are; spans leave, metrics do not."""
    given = told() | dict.fromkeys(_keys(), "given")
    known = {name.upper() for name in Settings.model_fields}
    assert [name for name in given if name not in known and not name.startswith("OTEL_")] == []
    for name, value in (given | {"BIND": "0.0.0.0:8000"}).items():
        monkeypatch.setenv(name, value)
    assert load_settings(_env_file=None).doubts == ()
    assert (otel_exports("traces"), otel_exports("metrics")) == (True, False)


def test_no_key_is_in_a_file() -> None:
    """Secrets come by reference, under their own names; no setting that is secret is in the map, and no Secret here."""
    assert _keys() == {name: name for name in SECRETS}
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)} | {
        name for name in told() if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_PASSWORD"))
    }
    assert secret & set(told()) == set()
    assert of_kind("Secret") == []


def test_an_end_has_the_time_it_needs() -> None:
    """Grace > preStop + GRACEFUL_TIMEOUT, that > TURN_TIMEOUT + the last call; readiness is seen in time."""
    settings = load_settings(
        _env_file=None, graceful_timeout=seconds("GRACEFUL_TIMEOUT"), turn_timeout=seconds("TURN_TIMEOUT")
    )
    last_call_s = 2 * settings.db_save_timeout + bootstrap.LAST_ANSWERS_S
    pre_stop = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod()["terminationGracePeriodSeconds"] >= pre_stop + settings.graceful_timeout + 10
    assert settings.graceful_timeout >= settings.turn_timeout + last_call_s
    assert 0 < seconds("DRAIN_GRACE") < settings.graceful_timeout
    ready = container()["readinessProbe"]
    assert pre_stop + seconds("DRAIN_GRACE") > ready["periodSeconds"] * ready["failureThreshold"]


def test_probes_restart_what_is_silent_only() -> None:
    """Who loads or drains is given no turns, but is not restarted: only readiness asks /readyz, and it kills nobody.

    Liveness gives a minute, and a start has one too, some fifty times what it takes.
    """
    asked = {probe: container()[probe]["httpGet"]["path"] for probe in PROBES}
    assert asked == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for probe in ("startupProbe", "livenessProbe"):
        patience = container()[probe]
        assert patience["periodSeconds"] * patience["failureThreshold"] >= 60


def test_the_pod_may_do_nothing_but_serve() -> None:
    """No root, nothing to become it with, no capability, nothing to write but the volume, no token of the cluster's."""
    (user,) = _arguments("USER")
    uid, gid = map(int, user.split(":"))
    assert {name: pod()["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {
        "runAsUser": uid, "runAsGroup": gid, "fsGroup": gid,
    }  # fmt: skip
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert (pod()["automountServiceAccountToken"], "volumes" in pod()) == (False, False)


def test_the_image_has_a_version() -> None:
    """The image is that of the Containerfile's version, and of no moving tag."""
    name, _, tag = container()["image"].partition(":")
    labels = " ".join(_arguments("LABEL"))
    assert f"image.title={name} " in labels
    assert f"image.version={tag} " in labels


def test_the_shares_make_a_whole() -> None:
    """The comment's arithmetic holds: replicas by this pod's share is what the provider is said to allow."""
    replicas = the_only("StatefulSet")["spec"]["replicas"]
    text = next(file for file in FILES if file.name == "config.yaml").read_text("utf-8")
    (allowed,) = re.findall(r"what the provider allows: (\d+) calls at once, by three replicas", text)
    assert (replicas, replicas * int(told()["OPENAI_API_POOL_SIZE"])) == (3, int(allowed))


def test_memory_is_what_was_measured() -> None:
    """A pod asks for what a thousand open streams took, and may have twice that; the volume has room for the outbox."""
    resources = container()["resources"]
    assert f"| {PROMISED_RSS_MIB} (" in (PROJECT_ROOT / "bench/RESULTS.md").read_text("utf-8")
    assert (
        PROMISED_RSS_MIB < _mebibytes(resources["requests"]["memory"]) <= _mebibytes(resources["limits"]["memory"]) / 2
    )
    (claim,) = the_only("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert _mebibytes(claim["spec"]["resources"]["requests"]["storage"]) >= 64 + 320 + 16


def test_one_may_be_away() -> None:
    """A node that is emptied takes one pod at most, and one that cannot get ready is no obstacle."""
    budget = the_only("PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_the_ingress_opens_what_front_ends_need() -> None:
    """Each path of the contract is open but those of ops and of probes; conversations are told apart by a header."""
    contract = json.loads((PROJECT_ROOT / "docs/openapi.json").read_text("utf-8"))["paths"]
    opened = [(path["path"], path["pathType"]) for path in _paths()]
    ours = {path for path in contract if any(_opens(rule, path) for rule in opened)}
    assert set(contract) - ours == {
        path for path in contract if path.startswith(("/ops/", "/metrics", "/healthz", "/readyz"))
    }
    annotations = the_only("Ingress")["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io"
    assert annotations[f"{prefix}/upstream-hash-by"] == "$http_x_chat_id"
    assert annotations[f"{prefix}/proxy-buffering"] == "off"
    assert float(annotations[f"{prefix}/proxy-read-timeout"]) > seconds("TURN_TIMEOUT")
    assert all(isinstance(value, str) for value in annotations.values())


def _opens(rule: tuple[str, str], path: str) -> bool:
    prefix, kind = rule
    return path == prefix or (kind == "Prefix" and path.startswith(f"{prefix}/"))


def _paths() -> list[dict[str, Any]]:
    (rule,) = the_only("Ingress")["spec"]["rules"]
    found: list[dict[str, Any]] = rule["http"]["paths"]
    return found


def _keys() -> dict[str, str]:
    secret = the_only("ConfigMap")["metadata"]["name"]
    referred = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container()["env"]}
    assert {each["name"] for each in referred.values()} == {secret}
    return {name: each["key"] for name, each in referred.items()}


def _arguments(verb: str) -> list[str]:
    return [argument for name, argument in last_stage() if name == verb]


def _mebibytes(text: str) -> float:
    return float(text[:-2]) * {"Mi": 1, "Gi": 1024}[text[-2:]]
